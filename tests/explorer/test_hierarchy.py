"""The tree of a run's page: every link once, below its parent, whatever a file says."""

import pandas as pd

from lightning_sae.explorer import hierarchy
from lightning_sae.explorer.hierarchy import COLUMNS, tree


def row(level, latent, parent_level, parent, **labels):
    numbers = dict(
        zip(COLUMNS, [level, latent, parent_level, parent, "firing", 0.9, 0.85, 0.95, 0.2, 0.3], strict=True)
    )
    return numbers | labels


def test_grandchildren_lie_below_children_and_the_largest_family_comes_first():
    rows = [row(1, 8, 0, 2), row(1, 9, 0, 3), row(2, 20, 1, 9), row(2, 21, 0, 3, label="<i>", named=True)]
    first, second = tree(pd.DataFrame(rows))
    assert (first["latent"], first["below"], second["latent"], second["below"]) == (3, 3, 2, 1)
    assert [child["latent"] for child in first["children"]] == [9, 21]
    assert [child["latent"] for child in first["children"][0]["children"]] == [20]
    assert first["children"][1]["name"].shown == "<i>"
    assert first["children"][0]["given"] == "90 % (85 to 95)"
    assert first["children"][0]["chance"] == "20 %"
    assert str(first["name"]) == "? (latent 3)"


def test_only_so_many_are_shown(monkeypatch):
    monkeypatch.setattr(hierarchy, "MOST", 3)
    rows = [row(1, 10 * parent + i, 0, parent) for parent in (1, 2, 3) for i in range(5 - parent)]
    assert [root["latent"] for root in tree(pd.DataFrame(rows))] == [1]
    assert [root["latent"] for root in tree(pd.DataFrame(rows[4:]))] == [2]


def test_what_is_no_link_is_left_out():
    loop = [row(1, 4, 1, 5), row(1, 5, 1, 4), row(2, 6, 3, 7), row(99, 1, 98, 2)]
    odd = [row(1, "x", 0, 2), row(1, 3, None, 2), {"level": 1}]
    assert tree(pd.DataFrame(loop + odd)) == []
    assert tree(pd.DataFrame()) == []
    assert len(tree(pd.DataFrame([row(1, 4, 0, 2), row(1, 4, 0, 3)]))) == 1
