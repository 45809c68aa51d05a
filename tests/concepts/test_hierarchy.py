"""Parents and children of hand-made latents: the links are known."""

import numpy as np
import pytest
import torch
from scipy.sparse import csc_array

from lightning_sae.concepts.hierarchy import Level, is_kind_of, link, prefix_levels, with_labels
from lightning_sae.concepts.naming import LatentName
from lightning_sae.types import SparseLatents

N, D = 1500, 40


def family(silent=0.0, unrelated=20, seed=0):
    """Three parents, two children of each, on the two halves of the parent's images, and other latents.

    Where a child fires its parent is silent on a share of the images; its direction holds the parent's.
    """
    generator = np.random.default_rng(seed)
    parents = np.arange(N)[:, None] % 6 == np.array([[0, 1, 2]])
    half = generator.random(N) < 0.5
    children = np.concatenate([parents & half[:, None], parents & ~half[:, None]], 1)
    parents = parents & ~(generator.random((N, 3)) < silent)
    others = generator.random((N, unrelated)) < 0.15
    directions = np.linalg.qr(generator.standard_normal((D, D)))[0]
    pointing = directions[[0, 1, 2, 0, 1, 2]] + directions[3:9]
    noise = generator.standard_normal((unrelated, D))
    behind = np.concatenate([children, others], 1), np.concatenate([pointing, noise])
    levels = [(parents, directions[:3]), behind]
    return [Level(np.arange(f.shape[1]), d, csc_array(f * 1.0)) for f, d in levels]


@pytest.mark.parametrize("seed", range(3))
def test_children_find_their_parents_and_others_none(seed):
    table = link(family(seed=seed)).set_index("latent")
    assert table.loc[range(6), "parent"].tolist() == [0, 1, 2, 0, 1, 2]
    assert set(table.loc[range(6), "by"]) == {"both"}
    assert table.loc[range(6), "given_child"].tolist() == [1.0] * 6
    assert table.loc[range(6), "given_parent"].to_numpy() == pytest.approx(0.5, abs=0.1)
    assert table.loc[range(6), "chance"].to_numpy() == pytest.approx(1 / 6, abs=0.01)
    assert table.loc[range(6), "cosine"].to_numpy() == pytest.approx(0.5**0.5)
    assert len(table) - 6 <= 2  # of 20 that have no parent


def test_of_an_absorbed_parent_the_direction_is_left():
    table = link(family(silent=0.6)).set_index("latent")
    assert table.loc[range(6), "parent"].tolist() == [0, 1, 2, 0, 1, 2]
    assert set(table.loc[range(6), "by"]) == {"direction"}
    assert (table.loc[range(6), "high"] < 0.8).all()


def test_chance_links_no_more_than_the_false_discovery_rate_allows():
    """Latents without parents: neither firing nor direction finds any in all but a few of 40 draws."""
    found = []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        sizes = (10, 40)
        levels = [
            Level(
                np.arange(m),
                generator.standard_normal((m, D)),
                csc_array((generator.random((300, m)) < generator.uniform(0.05, 0.9, m)) * 1.0),
            )
            for m in sizes
        ]
        found.append(len(link(levels, seed=seed)) > 0)
    assert np.mean(found) < 0.2  # two kinds of links at 5 % each


def test_the_nearest_of_several_parents_is_taken_and_a_copy_is_none():
    n = np.arange(1000)
    animal, bird, penguin = n < 600, n < 200, n < 50
    fires = [animal, bird, penguin]
    first = Level(np.array([4, 5]), np.eye(9)[:2], csc_array(np.stack(fires[:2], 1) * 1.0))
    copy = Level(np.array([6]), np.eye(9)[[1]], csc_array(bird[:, None] * 1.0))
    last = Level(np.array([7, 8]), np.eye(9)[2:4], csc_array(np.stack([penguin, animal], 1) * 1.0))
    table = link([first, copy, last])
    links = table[table["by"] == "firing"][["latent", "parent_level", "parent"]].to_numpy().tolist()
    assert links in ([[6, 0, 4], [7, 0, 5]], [[6, 0, 4], [7, 1, 6]])
    assert 8 not in table["latent"].tolist()


def test_levels_are_what_each_prefix_adds():
    dense = torch.zeros(40, 8)
    dense[:20, [0, 2, 3, 7]] = 1.0
    dense[:9, 1] = 1.0  # too few images
    levels = prefix_levels(SparseLatents.from_dense(dense), np.eye(8), (2, 4, 8))
    assert [level.latents.tolist() for level in levels] == [[0], [2, 3], [7]]
    assert levels[1].directions.tolist() == np.eye(8)[[2, 3]].tolist()
    with pytest.raises(ValueError, match="the autoencoder has 1 prefixes: train a Matryoshka"):
        prefix_levels(SparseLatents.from_dense(dense), np.eye(8), (8,))


def test_levels_that_do_not_belong_together_are_refused():
    one, other = family()
    with pytest.raises(ValueError, match="two levels at least, got 1"):
        link([one])
    with pytest.raises(ValueError, match="not seen on the same images"):
        link([one, other._replace(fires=other.fires[:9])])
    with pytest.raises(ValueError, match=r"different widths, \[7, 40\]"):
        link([one, other._replace(directions=other.directions[:, :7])])


def test_an_empty_level_has_no_links():
    one, other = family()
    empty = Level(np.array([], int), np.zeros((0, D)), csc_array((N, 0)))
    assert len(link([empty, other])) == 0
    assert len(link([one, empty])) == 0


def test_labels_tell_kinds():
    assert is_kind_of("the word flag", "Flag")
    assert not is_kind_of("flag", "flag")
    assert not is_kind_of("snowflag", "flag")
    assert not is_kind_of("flag", "")
    names = [[LatentName("background", True)] * 3, [LatentName("navy background", False)] * 26]
    table = with_labels(link(family()), names)
    assert table["by_label"].all()
    assert set(table["parent_label"]) == {"background"}
    assert not table["named"].any()
