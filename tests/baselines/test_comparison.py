"""What tells a trained dictionary from one that learned nothing: intervals, marks, words."""

import math

import pandas as pd
import pytest
import torch
from scipy.stats import ttest_1samp, ttest_ind

from lightning_sae.baselines.comparison import COLUMNS, DictionaryNumbers, compare_with
from lightning_sae.baselines.shown import read_baselines, shown_rows, terminal, words
from lightning_sae.baselines.terms import Terms, image_terms
from lightning_sae.metrics import ImageErrors, cosine, fvu
from lightning_sae.metrics.welch import mean_difference


def draws(n, mean, seed):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed)) + mean


def measured(**terms):
    by_key = {key.replace("__", "/"): term for key, term in terms.items()}
    return DictionaryNumbers({key: term.number for key, term in by_key.items()}, by_key)


def test_the_interval_is_that_of_scipy():
    one, other = draws(40, 0.3, 1), draws(25, 0.0, 2) * 2
    expected = ttest_ind(one.double(), other.double(), equal_var=False).confidence_interval(0.9)
    assert mean_difference(one, other, confidence=0.9)[1:] == pytest.approx(tuple(expected))
    expected = ttest_1samp((one[:25] - other).double(), 0).confidence_interval(0.9)
    assert mean_difference(one[:25], other, paired=True, confidence=0.9)[1:] == pytest.approx(
        tuple(expected), rel=1e-5
    )


def test_one_term_has_no_interval_and_no_mark():
    one, other = (measured(pairs__response=Terms(torch.tensor([value]), paired=True)) for value in (0.9, 0.1))
    (row,) = compare_with(one, {"neurons": other}).frame.to_dict("records")
    assert row["difference"] == pytest.approx(0.8)
    assert math.isnan(row["low"])
    assert row["tells"] is None


def test_the_interval_covers_the_truth_as_often_as_it_says():
    found = [mean_difference(draws(12, 1.0, 2 * s), draws(30, 0.0, 2 * s + 1)) for s in range(400)]
    covered = sum(low <= 1 <= high for _, low, high in found) / len(found)
    assert 0.92 < covered < 0.98  # three standard errors about 0.95


def test_values_that_are_not_there_do_not_count():
    one, nothing = torch.tensor([1.0, 2.0, math.nan]), torch.tensor([math.nan, 1.0, 1.0])
    assert math.isnan(mean_difference(one, nothing, paired=True).low)  # one pair
    assert mean_difference(one, nothing).mean == pytest.approx(0.5)
    assert mean_difference(torch.ones(3), torch.zeros(2)) == (1, 1, 1)
    with pytest.raises(ValueError, match="paired samples are equally long, got 3 and 2"):
        mean_difference(one, nothing[:2], paired=True)


def test_a_sum_is_compared_as_one():
    many, few = (
        Terms(torch.tensor([1.0, 0.0] * 50), total=True),
        Terms(torch.tensor([1.0, 0.0] * 10), total=True),
    )
    found = many.minus(few)
    assert (many.number, few.number, found.mean) == (50, 10, 40)
    spread = (100**2 * 0.25 / 99 + 20**2 * 0.25 / 19) ** 0.5
    assert found.high - found.mean == pytest.approx(2.0 * spread, rel=0.05)


def test_a_number_that_a_random_dictionary_also_gets_is_marked():
    """The planted one has the same distribution in both; the other is learned."""
    trained = measured(
        alignment__mean=Terms(draws(300, 0.0, 1)), alignment__clarity=Terms(draws(300, 1.0, 3))
    )
    random = measured(alignment__mean=Terms(draws(200, 0.0, 2)), alignment__clarity=Terms(draws(200, 0.0, 4)))
    table = compare_with(trained, {"random": random})
    assert table.frame.set_index("key")["tells"].to_dict() == {
        "alignment/mean": False,
        "alignment/clarity": True,
    }
    assert table.silent("alignment/mean") == ["random"]
    assert words(table, "alignment/mean").endswith(": does not tell")
    assert "does not tell" not in words(table, "alignment/clarity")


def test_better_is_the_way_of_the_number():
    low, high = Terms(draws(50, 0.0, 1), paired=True), Terms(draws(50, 9.0, 2), paired=True)
    for key, better, worse in (("val__fvu", low, high), ("val__cosine", high, low)):
        tells = [
            compare_with(measured(**{key: mine}), {"b": measured(**{key: theirs})}).frame["tells"].item()
            for mine, theirs in ((better, worse), (worse, better))
        ]
        assert tells == [True, False]


def test_what_cannot_be_told_has_no_mark():
    trained = DictionaryNumbers(
        {"alignment/p50": 0.3, "alignment/margin": math.nan, "val/l0": 4.0, "train/x": 1.0}, {}
    )
    table = compare_with(
        trained,
        {"run": DictionaryNumbers({"alignment/p50": 0.1, "alignment/margin": 0.1, "val/l0": 4.0}, {})},
    )
    assert table.frame["key"].tolist() == ["alignment/p50"]
    assert table.frame["tells"].tolist() == [None]
    assert table.frame["difference"].item() == pytest.approx(0.2)
    assert shown_rows(table) == []
    assert terminal(table) is None


def test_a_table_is_the_same_from_its_file(tmp_path):
    trained = measured(
        val__fvu=Terms(draws(50, 1.0, 1), paired=True), alignment__named=Terms(torch.ones(5), total=True)
    )
    others = {"shuffled": measured(alignment__named=Terms(torch.zeros(5), total=True)), "untrained": trained}
    table = compare_with(trained, others)
    table.frame.to_csv(tmp_path / "b.csv", index=False)
    again = read_baselines(pd.read_csv(tmp_path / "b.csv"))
    assert list(again.frame) == COLUMNS
    assert again.names == table.names == ["untrained", "shuffled"]
    assert shown_rows(again) == shown_rows(table)
    assert [row.title for row in shown_rows(again)] == ["FVU", "named"]
    assert [cell.text for cell in shown_rows(again)[1].cells] == ["5", "0"]
    assert read_baselines(pd.DataFrame()).keys == []


def test_the_terms_of_fvu_and_cosine_have_them_as_their_mean():
    x, x_hat = draws(60, 5.0, 1).view(20, 3), draws(60, 5.0, 2).view(20, 3)
    ids = torch.arange(20) // 2  # two tokens an image
    errors = ImageErrors(n_images=11)
    for part in (slice(0, 7), slice(7, 20)):
        errors.update(x[part], x_hat[part], ids[part])
    error, cosines = errors.compute()
    assert error.isnan().tolist() == [False] * 10 + [True]
    terms = image_terms(error, cosines, float(fvu(x, x_hat)))
    assert terms["val/fvu"].number == pytest.approx(float(fvu(x, x_hat)), rel=1e-6)
    assert terms["val/cosine"].number == pytest.approx(float(cosine(x, x_hat)), rel=1e-6)
