"""What a latent is called: by its label where that is to be relied on, else "?" and the label as a guess."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import pandas as pd

from lightning_sae.trust.control_characters import escape

UNKNOWN = "?"


class LatentName(NamedTuple):
    """The name of a latent.

    The judge finds a label for every latent that fires. It is a name where the latent is *named*, its label
    significant and valid on other images (`docs/quantities.md`). Any other latent is called "?", with its
    label beside it as a guess, in grey where there are colours.

    Attributes:
        label: the best one; "" for a latent without.
        named: whether it is to be relied on.

    Example:
        >>> print(LatentName("star", True), LatentName("ferret", False), LatentName("", False), sep=" | ")
        star | ? (ferret) | ?
    """

    label: str
    named: bool

    @classmethod
    def of(cls, row: "Mapping[Any, Any] | pd.Series[Any]") -> Self:
        """Return the name of the latent in a row of a table; without `label` and `named` it has none.

        Example:
            >>> LatentName.of({"latent": 3, "label": "ferret"})
            LatentName(label='ferret', named=False)
        """
        label = row.get("label")
        label = label if isinstance(label, str) else ""  # a cell without text is NaN
        return cls(label, label != "" and str(row.get("named")) == "True")

    @property
    def shown(self) -> str:
        """The name, "?" for none."""
        return self.label if self.named else UNKNOWN

    @property
    def guess(self) -> str:
        """The label that is no name; "" where there is none, or a name."""
        return "" if self.named else self.label

    def __str__(self) -> str:
        return f"{self.shown} ({self.guess})" if self.guess else self.shown

    def or_number(self, latent: int) -> "LatentName":
        """Return the same; a latent without a label is told by its number.

        Example:
            >>> print(LatentName("", False).or_number(12))
            ? (latent 12)
        """
        return self if self.label else LatentName(f"latent {latent}", False)

    def in_sentence(self, latent: int) -> str:
        """Return the name with the number of the latent, as part of a sentence.

        Example:
            >>> LatentName("star", True).in_sentence(3), LatentName("ferret", False).in_sentence(4)
            ('"star" (latent 3)', '? (ferret, latent 4)')
        """
        if self.named:
            return f'"{self.label}" (latent {latent})'
        return f"{UNKNOWN} ({', '.join(filter(None, (self.guess, f'latent {latent}')))})"

    def markup(self) -> str:
        """Return the name for the terminal, in rich's markup, the guess dim.

        Example:
            >>> LatentName("ferret", False).markup()
            '? [dim]ferret[/dim]'
        """
        return f"{escape(self.shown)} [dim]{escape(self.guess)}[/dim]" if self.guess else escape(self.shown)


def names_of(table: pd.DataFrame) -> list[LatentName]:
    """Return the names of the latents of a table, one a row.

    Example:
        >>> [str(name) for name in names_of(pd.DataFrame({"label": ["a", "b"], "named": [True, False]}))]
        ['a', '? (b)']
    """
    return [LatentName.of(row) for row in table.reindex(columns=["label", "named"]).to_dict("records")]


def name_columns(names: Sequence[LatentName]) -> dict[str, list[Any]]:
    """Return the columns of a table of latents, from which `names_of` has the names again.

    Example:
        >>> name_columns([LatentName("a", True)])
        {'label': ['a'], 'named': [True]}
    """
    return {"label": [name.label for name in names], "named": [name.named for name in names]}


def with_names(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table for people: its first column has the names of the latents, in place of their labels.

    Example:
        >>> with_names(pd.DataFrame({"latent": [7], "label": ["b"], "named": [False]})).to_dict("records")
        [{'name': '? (b)', 'latent': 7, 'named': False}]
    """
    if "label" not in table:
        return table
    shown = table.drop(columns="label")
    shown.insert(0, "name", [str(name) for name in names_of(table)])
    return shown
