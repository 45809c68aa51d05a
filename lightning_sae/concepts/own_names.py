"""`names.csv` of a run folder: what people call its latents, in the place of what the judge found."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from lightning_sae.files import write_atomic
from lightning_sae.trust.tables import csv_bytes, read_table

FILE = "names.csv"
DIGITS = 16  # of the autoencoder's digest, which say whose latents they are
LONGEST = 200  # letters of a name


def read_names(path: Path, sae_sha256: str = "") -> dict[int, str]:
    """Read the names of a person.

    The file has the columns `latent` and `name`, and may have `sae`, the first digits of the autoencoder's
    SHA-256; a line without a name is left out, others of its columns are not read.

    Args:
        path: the file.
        sae_sha256: of the autoencoder whose latents are asked for; "" where that is not known.

    Raises:
        ValueError: no such columns, a latent that is no number or is there twice, a name that is too long or
            of several lines, or names of another autoencoder; names the line.
    """
    table = read_table(path, ["latent", "name"], dtype=str, keep_default_na=False)
    names: dict[int, str] = {}
    for line, row in enumerate(table.to_dict("records"), start=2):
        name = str(row["name"]).strip()
        if not name:
            continue
        latent, of = str(row["latent"]), str(row.get("sae", ""))
        if not (latent.isascii() and latent.isdecimal()):
            raise ValueError(f"{path}, line {line}: a latent is a number, got {latent!r}")
        if int(latent) in names:
            raise ValueError(f"{path}, line {line}: latent {latent} has a name already, keep one")
        if len(name) > LONGEST or len(name.splitlines()) > 1:
            raise ValueError(f"{path}, line {line}: a name is one line of at most {LONGEST} letters")
        if of and sae_sha256 and not sae_sha256.startswith(of):
            raise ValueError(
                f"{path} names latents of another autoencoder ({of}; this one is {sae_sha256[:DIGITS]}): "
                "`lightning-sae name RUN --names-of OTHER` carries the names of another run over; else "
                "remove the file"
            )
        names[int(latent)] = name
    return names


def write_names(path: Path, names: Mapping[int, str], sae_sha256: str = "") -> None:
    """Write the names of latents, by latent, whole or not at all.

    Args:
        path: the file.
        names: latent -> its name.
        sae_sha256: of the autoencoder that they belong to; "" where that is not known.
    """
    rows = [(latent, names[latent], sae_sha256[:DIGITS]) for latent in sorted(names)]
    write_atomic(path, csv_bytes(pd.DataFrame(rows, columns=["latent", "name", "sae"])))


def with_own_names(table: pd.DataFrame, names: Mapping[int, str]) -> pd.DataFrame:
    """Return a table of latents with people's names in the place of labels; others stay as they are.

    A latent that a person has named is *named*, and not novel. The judge's label is kept as `judge_label`.

    Args:
        table: with a column `label`, and `latent` as a column or as its index; else it is returned as it is.
        names: latent -> its name.

    Example:
        >>> table = pd.DataFrame({"latent": [3, 4], "label": ["cat", "dog"], "named": [False, True]})
        >>> with_own_names(table, {3: "whiskers"}).values.tolist()
        [[3, 'whiskers', True, 'cat'], [4, 'dog', True, 'dog']]
    """
    if not names or "label" not in table or not ("latent" in table or table.index.name == "latent"):
        return table
    latents = pd.Series(table.get("latent", table.index), dtype=object)
    own = latents.map(names).to_numpy()
    known = pd.notna(own)
    changed = table.assign(judge_label=table["label"])
    changed["label"] = table["label"].astype(object).where(~known, own)
    for column, value in {"named": True, "novel": False}.items():
        if column in table:
            changed[column] = table[column].astype(object).where(~known, value)
    return changed
