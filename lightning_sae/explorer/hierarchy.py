"""The tree of parents and children, from `hierarchy.csv` of a run."""

from typing import Any

import pandas as pd

from lightning_sae.concepts.naming import LatentName

PLACES = ["level", "latent", "parent_level", "parent"]
COLUMNS = [*PLACES, "by", "given_child", "low", "high", "chance", "cosine"]
MOST = 200  # latents with a parent that a page shows, those of the largest families first
DEPTH = 64  # levels, at most: a Matryoshka has a handful of prefixes

Place = tuple[int, int]


def tree(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the latents that have children and no parent, each with its tree, the largest tree first.

    A latent is a dictionary of `latent`, its `name`, `children`, and, where it has a parent, `by`, `given`
    (`P(parent | child)` with its interval), `chance` (share of all images on which the parent fires) and
    `cosine` in words.

    Args:
        table: `hierarchy.csv`; rows that lack a number, or whose parent is in no level before, are left out.

    Example:
        >>> rows = [[1, 7, 0, 2, "firing", 0.9, 0.8, 1, 0.2, 0.4], [2, 9, 1, 7, "both", 1, 0.9, 1, 0.1, 0.5]]
        >>> (root,) = tree(pd.DataFrame(rows, columns=COLUMNS))
        >>> root["latent"], root["children"][0]["latent"], root["children"][0]["children"][0]["given"]
        (2, 7, '100 % (90 to 100)')
    """
    children: dict[Place, list[dict[str, Any]]] = {}
    names: dict[Place, LatentName] = {}
    own: set[Place] = set()
    for row in _rows(table):
        parent, child = (row["parent_level"], row["parent"]), (row["level"], row["latent"])
        children.setdefault(parent, []).append(row)
        names.setdefault(parent, _name(row, "parent_"))
        own.add(child)
    roots = [place for place in children if place not in own]
    grown = [_node(place, names[place], children) for place in roots]
    grown.sort(key=lambda node: -node["below"])
    return _first(grown, MOST)


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    known = table.reindex(columns=[*COLUMNS, "label", "named", "parent_label", "parent_named"])
    numbers = known[COLUMNS].drop(columns="by").apply(pd.to_numeric, errors="coerce")
    right = numbers.notna().all(axis=1) & (numbers["parent_level"] >= 0) & (numbers["level"] <= DEPTH)
    right &= numbers["parent_level"] < numbers["level"]
    known = known.assign(**numbers)[right].drop_duplicates(["level", "latent"])
    rows: list[dict[str, Any]] = known.astype(dict.fromkeys(PLACES, int)).to_dict("records")
    return rows


def _name(row: dict[str, Any], whose: str) -> LatentName:
    name = LatentName.of({"label": row[f"{whose}label"], "named": row[f"{whose}named"]})
    return name.or_number(row["parent" if whose else "latent"])


def _node(place: Place, name: LatentName, children: dict[Place, list[dict[str, Any]]]) -> dict[str, Any]:
    below = [
        {
            **_node((row["level"], row["latent"]), _name(row, ""), children),
            "by": str(row["by"]),
            "given": _share(row["given_child"], row["low"], row["high"]),
            "chance": f"{100 * row['chance']:.0f} %",
            "cosine": f"{row['cosine']:.2f}",
        }
        for row in children.get(place, [])
    ]
    return {
        "latent": place[1],
        "name": name,
        "children": below,
        "below": len(below) + sum(child["below"] for child in below),
    }


def _share(share: float, low: float, high: float) -> str:
    return f"{100 * share:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def _first(roots: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """Return the first trees that have at most `most` latents with a parent together, at least one tree."""
    shown: list[dict[str, Any]] = []
    left = most
    for root in roots:
        if root["below"] <= left or not shown:
            left -= root["below"]
            shown.append(root)
    return shown
