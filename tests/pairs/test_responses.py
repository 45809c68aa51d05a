"""Responses of latents that read one coordinate each, and so are known."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from scipy.stats import ttest_1samp

from lightning_sae.concepts.naming import LatentName
from lightning_sae.pairs.pair import Contrast
from lightning_sae.pairs.picture import draw_responses
from lightning_sae.pairs.responses import (
    FactorValue,
    Moved,
    activation_scale,
    p_above_zero,
    respond,
    values_of,
)
from lightning_sae.pairs.strongest import strongest
from lightning_sae.types import SparseLatents

N = 40  # pairs of a factor
HAT, SKY = FactorValue("hat", "red"), FactorValue("sky", "blue")


@pytest.fixture
def moved():
    """Latent 0 reads the hat, 1 the sky, 2 a half of the hat and all of the sky, 3 noise, 4 nothing."""
    draws = np.random.default_rng(0)
    changes = np.zeros((2 * N, 5))
    changes[:N, 0] = changes[N:, 1] = 2.0 + draws.normal(0, 0.1, N)
    changes[:N, 2], changes[N:, 2] = 1.0, 2.0
    changes[:, 3] = draws.normal(0, 1, 2 * N)
    contrasts = [Contrast("hat", None, "red")] * N + [Contrast("sky", None, "blue")] * N
    return Moved(csr_array(changes), contrasts)


SCALE = np.array([2.0, 2.0, 2.0, 1.0, np.nan])


def test_by_the_definitions(moved):
    found = respond(moved, [HAT, SKY], SCALE)
    dense = moved.changes.toarray() / SCALE
    assert found.counts.tolist() == [N, N]
    np.testing.assert_allclose(found.response, [dense[:N].mean(0), dense[N:].mean(0)])
    right = [(part > 0).mean(0) + (part == 0).mean(0) / 2 for part in (dense[:N, :4], dense[N:, :4])]
    np.testing.assert_allclose(found.right_way[:, :4], right)
    np.testing.assert_allclose(found.movement, [np.abs(dense[:N]).mean(0), np.abs(dense[N:]).mean(0)])
    np.testing.assert_allclose(found.side_effect, found.movement[::-1])
    assert found.selectivity[:, 2].tolist() == [0.5 / 1.5, 1.0 / 1.5]
    assert found.selectivity[0, :2].tolist() == [1.0, 0.0]
    shares = np.array([1 / 3, 2 / 3])
    assert found.specificity[2] == pytest.approx(1 + (shares * np.log2(shares)).sum())
    assert found.specificity[:2].tolist() == [1.0, 1.0]
    assert np.isnan(found.specificity[4])


def test_the_p_value_is_that_of_students_test(moved):
    found, places = respond(moved, [HAT, SKY], SCALE), np.zeros(3, dtype=np.int64)
    samples = moved.changes.toarray()[:N, [0, 3, 1]]
    p = found.p_values(places, np.array([0, 3, 1]))
    assert p[:2] == pytest.approx(ttest_1samp(samples[:, :2], 0, alternative="greater").pvalue)
    assert p[2] == 1.0  # it never moves
    assert np.isnan(found.p_values(places[:1], np.array([4]))).all()
    assert p_above_zero(np.array([1.0]), np.array([0.0]), np.array([5])).tolist() == [0.0]


def test_a_pair_speaks_for_what_comes_and_the_other_way_round_for_what_goes():
    """A detector of `a` rises in half of the pairs and falls in the others; all speak for `a` alike."""
    contrasts = [Contrast("letter", "b", "a"), Contrast("letter", "a", "b")] * 3
    moved = Moved(csr_array(np.array([[1.0], [-1.0]] * 3)), contrasts)
    values = values_of(contrasts)
    found = respond(moved, values, np.ones(1))
    assert [str(value) for value in values] == ["letter=a", "letter=b"]
    assert found.counts.tolist() == [6, 6]
    assert found.response.tolist() == [[1.0], [-1.0]]
    assert found.right_way.tolist() == [[1.0], [0.0]]
    assert np.isnan(found.side_effect).all()  # there is no other factor
    assert np.isnan(found.specificity).all()


def test_the_scale_is_the_quantile_where_a_latent_is_active():
    dense = torch.zeros(200, 3)
    dense[:100, 0] = torch.randperm(100, generator=torch.Generator().manual_seed(0)) + 1.0
    dense[7, 2] = 0.5
    scale = activation_scale(SparseLatents.from_dense(dense))
    assert scale[0] == np.quantile(np.arange(1, 101), 0.9, method="inverted_cdf") == 90
    assert np.isnan(scale[1])
    assert scale[2] == 0.5


def test_one_half_chooses_and_the_other_measures(moved):
    first, second = moved.halves()
    assert [contrast.factor for contrast in first.contrasts].count("hat") == N // 2
    assert len(first.contrasts) + len(second.contrasts) == 2 * N
    found = strongest(moved, SCALE, most=2)
    assert found.latents[0, 0] == 0
    np.testing.assert_allclose(found.measured.response, respond(second, [HAT, SKY], SCALE).response)
    assert found.of_values()["right_way"].mean() == 1.0
    columns = found.latent_columns()
    assert columns["factor"] == ["hat=red", "sky=blue", "sky=blue", "", ""]
    assert columns["side_effect"][2] == pytest.approx(0.5)
    assert np.isnan(columns["response"][3:]).all()


def test_a_value_for_which_nothing_rises_counts_as_one_that_nothing_moves():
    contrasts = [Contrast("hat", None, "red")] * N + [Contrast("sky", None, "blue")] * N
    changes = np.zeros((2 * N, 2))
    changes[:N, 0], changes[N:] = 1.0, -1.0
    found = strongest(Moved(csr_array(changes), contrasts), np.ones(2)).of_values()
    assert {name: column[1] for name, column in found.items()} == {
        "response": 0.0,
        "right_way": 0.5,
        "selectivity": 0.0,
        "specificity": 0.0,
    }
    assert found["response"][0] == 1.0


def test_noise_alone_responds_to_nothing():
    draws = np.random.default_rng(0)
    contrasts = [Contrast("hat", None, "red")] * N + [Contrast("sky", None, "blue")] * N
    found = strongest(Moved(csr_array(draws.normal(size=(2 * N, 300))), contrasts), np.ones(300))
    assert sum(factor != "" for factor in found.latent_columns()["factor"]) <= 1
    assert found.of_values()["right_way"].mean() == pytest.approx(0.5, abs=0.2)


def test_the_table_has_intervals_around_the_response(moved):
    table = strongest(moved, SCALE, most=3).table()
    assert table.columns[:4].tolist() == ["factor", "value", "latent", "pairs"]
    assert (table["low"] <= table["response"]).all()
    assert (table["response"] <= table["high"]).all()
    (row,) = table[(table["factor"] == "hat") & (table["latent"] == 0)].to_dict("records")
    assert row["low"] > 0.95
    assert row["pairs"] == N // 2


@pytest.mark.parametrize(("contrasts", "scale"), [(1, np.ones(2)), (30, np.full(2, np.nan))])
def test_without_enough_pairs_or_latents_there_is_nothing(contrasts, scale):
    pairs = [Contrast("hat", None, "red")] * contrasts
    assert strongest(Moved(csr_array(np.ones((contrasts, 2))), pairs), scale) is None


def test_the_picture_has_a_row_a_value_and_a_column_a_latent(moved):
    found = strongest(moved, SCALE)
    names = [LatentName("hat", True)] * 5
    axes = draw_responses(found, names).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["hat=red", "sky=blue"]
    assert axes.get_xticklabels()[0].get_text() == "hat  0"
    matrix = axes.images[0].get_array()
    assert matrix.shape == (2, len({*found.latents[:, 0].tolist()}))
