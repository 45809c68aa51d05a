"""The names in a page: latents without a name, names proposed for them, and names that people wrote."""

from typing import Any

import pandas as pd

from lightning_sae.browser import rounded
from lightning_sae.concepts.own_names import DIGITS
from lightning_sae.names.proposals import read_proposals
from lightning_sae.report import plain
from lightning_sae.runs.folder import RunFolder


def naming_columns(run: RunFolder) -> dict[str, Any]:
    """Return what the scripts of a page read about names.

    Returns:
        `novel` and `group`: a value per latent in the order of `latents.csv`, 1 and the group of near copies
        for a latent that has no name yet, 0 and -1 for others. By latent: `proposals` (name, source, its
        validity, that of the vocabulary's label, firing images, evidence; the best first), `own` (the name
        that a person wrote), `judged` (the judge's label for a latent with such a name). `sae`: the first
        digits of the autoencoder's digest.
    """
    table = run.latents
    novel = _column(table, "novel", False).astype(str) == "True"
    groups = _column(table, "novel_group", -1).where(novel, -1)
    judged = _column(table, "judge_label", "")
    own = {j: plain(name) for j, name in run.own_names.items() if j in table.index}
    return {
        "novel": novel.astype(int).tolist(),
        "group": groups.fillna(-1).astype(int).tolist(),
        "proposals": _proposals(read_proposals(run)),
        "own": own,
        "judged": {j: plain(str(judged[j])) for j in own},
        "sae": run.sae_sha256[:DIGITS],
    }


def novel_in_words(columns: dict[str, Any]) -> str:
    """Return how many latents have no name yet; "" for none.

    Example:
        >>> novel_in_words({"novel": [1, 0, 1], "group": [0, -1, 0]})
        '2 latents in 1 group'
    """
    latents, groups = sum(columns["novel"]), len({*columns["group"]} - {-1})
    if not latents:
        return ""
    return f"{latents} latent{'s' * (latents > 1)} in {groups} group{'s' * (groups > 1)}"


def _column(table: pd.DataFrame, name: str, default: object) -> "pd.Series[Any]":
    return table[name] if name in table else pd.Series([default] * len(table), index=table.index)


def _proposals(found: pd.DataFrame) -> dict[int, list[list[Any]]]:
    told: dict[int, list[list[Any]]] = {}
    for row in found.to_dict("records"):
        numbers = [*rounded([row["validity"], row["vocabulary_validity"]]), int(row["firing"])]
        name, source, evidence = (plain(str(row[key])) for key in ("name", "source", "evidence"))
        told.setdefault(int(row["latent"]), []).append([name, source, *numbers, evidence])
    return told
