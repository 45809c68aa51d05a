"""What the figures on real pictures should be, and are."""

from pandas import DataFrame, Series

CLEAN = "clean"
CHOSEN_DATA, CHOSEN_EDITIONS, CHOSEN_SEED = "fashion", (CLEAN, "planted95_a"), 0
"""What the audit was developed on; the rest is reported."""

LEVEL = 0.01  # of the tests of meaning, by default
MEDIUM = 0.02  # harm, from which a finding is of medium severity
POINTS = (0.01, 0.02, 0.05, 0.1, 0.2)  # of harm, to show what this convention does
PER = 20  # classes
GOALS = {
    "clean: findings of medium or more": "0 in 20 classes",
    "clean: unexpected share, accuracy >= 0.9": "<= 0.15 each",
    "apart: average precision of culprits": ">= 0.9",
    "biased: cannot be told, or the plant": "all",
    "biased: another class's detector": "none",
    "kind right": ">= 80 %",
    "class detectors labelled right": ">= 90 %",
    "class detectors named": ">= 70 %",
    "correction: error of the worse group halved": "all",
    "correction: largest loss of a class": "<= 3 points",
}
Tables = dict[str, DataFrame]


def chosen(rows: DataFrame) -> "Series[bool]":
    """Return the rows that belong to what the audit was developed on."""
    edition = rows["edition"].isin(CHOSEN_EDITIONS)
    return (rows["data"] == CHOSEN_DATA) & edition & (rows["seed"] == CHOSEN_SEED)


def goals(tables: Tables) -> DataFrame:
    """Return a row per goal, classifier, judge, and whether the audit was told the groups.

    A row holds the figure on the data on which the audit was developed, and the figure on the rest.
    """
    rows, tables = [], {name: rows[rows["level"] == LEVEL] for name, rows in tables.items()}
    for (kind, own, groups), _ in tables["classes"].groupby(["classifier", "own_judge", "groups"]):
        mine = {name: of(rows, kind, own, groups) for name, rows in tables.items()}
        here, there = (
            figures({name: rows[chosen(rows) == first] for name, rows in mine.items()})
            for first in (True, False)
        )
        judge = "itself" if own else "independent"
        rows += [
            {
                "classifier": kind,
                "judge": judge,
                "groups": "told" if groups else "-",
                "figure": name,
                "goal": goal,
                "chosen by": here[name],
                "reported": there[name],
            }
            for name, goal in GOALS.items()
        ]
    return DataFrame(rows)


def of(rows: DataFrame, kind: str, own: bool, groups: bool) -> DataFrame:
    """Return the rows of a classifier, a judge, and an audit that was told the groups or not."""
    return rows[(rows["classifier"] == kind) & (rows["own_judge"] == own) & (rows["groups"] == groups)]


def figures(tables: Tables) -> dict[str, str]:
    """Return each figure as text; a dash where nothing was measured."""
    classes, plants, detectors = (tables[name] for name in ("classes", "plants", "detectors"))
    clean = classes[classes["edition"] == CLEAN]
    good = clean.loc[clean["accuracy"] >= 0.9, "unexpected_share"].dropna()
    fixed = tables["corrections"]
    plants = plants[plants["taken"] - plants["taken_without"] >= MEDIUM]  # the others did not take
    apart, biased = plants[plants["variant"] != "biased"], plants[plants["variant"] == "biased"]
    fair = (biased["verdict"] == "cannot be told") | ((biased["true"] > 0) & (biased["false"] == 0))
    known = detectors[detectors["told"] >= KNOWN]
    values = [
        f"{len(harmful(tables, MEDIUM))} in {len(clean)}" if len(clean) else "-",
        f"{(good <= 0.15).sum()} of {len(good)}, largest {good.max():.2f}" if len(good) else "-",
        f"{apart['precision'].mean():.2f} of {len(apart)}" if len(apart) else "-",
        f"{fair.sum()} of {len(biased)}" if len(biased) else "-",
        str(len(wrong_detectors(tables["findings"]))) if len(biased) else "-",
        ratio(plants["right_kind"].sum(), plants["true"].sum()),
        ratio((known["label"] == known["class_name"]).sum(), len(known)),
        ratio(detectors["named"].sum(), len(detectors)),
        ratio((fixed["worst_after"] <= fixed["worst"] / 2).sum(), len(fixed)),
        f"{100 * fixed['loss'].max():.1f} points" if len(fixed) else "-",
    ]
    return dict(zip(GOALS, values, strict=True))


KNOWN = 0.8  # AUROC from which a judge tells a class


def harmful(tables: Tables, points: float) -> DataFrame:
    """Return the findings of clean CLIPs from some harm on."""
    found = tables["findings"]
    return found[(found["edition"] == CLEAN) & (found["harm"] >= points)]


def wrong_detectors(findings: DataFrame) -> DataFrame:
    """Return the findings on biased data whose worst culprit detects another class."""
    detects = findings["detects"]
    return findings[(findings["variant"] == "biased") & (detects != "") & (detects != findings["class_name"])]


def ratio(part: int, whole: int) -> str:
    """Return a share and what it is of.

    Example:
        >>> ratio(3, 4)
        '75 % of 4'
    """
    return f"{part / whole:.0%} of {whole}".replace("%", " %") if whole else "-"


def ranges(tables: Tables) -> DataFrame:
    """Count the findings over the level of the tests and the harm from which one counts."""
    rows = []
    untold = {name: rows[~rows["groups"].astype(bool)] for name, rows in tables.items()}
    for level, found in untold["findings"].groupby("level"):
        at = {name: rows[rows["level"] == level] for name, rows in untold.items()}
        clean, planted = (at["classes"]["edition"] == CLEAN).sum(), found[found["plant"] != ""]
        rows += [
            {
                "level": level,
                "harm from": f"{points:.0%}",
                "findings of clean CLIPs": f"{len(harmful(at, points))} in {clean} classes",
                "findings of a plant": f"{(planted['harm'] >= points).sum()} of {len(planted)}",
            }
            for points in POINTS
        ]
    return DataFrame(rows)
