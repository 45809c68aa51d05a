"""One latent of a run, for people: its name, what is known of it, and the examples that activate it most."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from PIL import Image

from lightning_sae.concepts.naming import LatentName
from lightning_sae.report import compact, percent, render_cell, webp_uri
from lightning_sae.report.thumbnails import thumbnail

SIDE = 96  # pixels of an example


class Latent:
    """A latent of a run; in a notebook it shows itself with its examples.

    Args:
        number: of the latent.
        row: of `latents.csv`; empty for a latent that no validation example activates.
        examples: RGB images or texts, the largest activation first.

    Attributes:
        name: what it is called.
    """

    def __init__(self, number: int, row: "pd.Series[Any]", examples: Sequence[Image.Image | str]) -> None:
        self.number, self.row, self.examples = number, row, examples
        self.name = LatentName.of(row)

    def __repr__(self) -> str:
        return f"Latent({self.number}, {self.name}, {len(self.examples)} examples)"

    def to_frame(self) -> pd.DataFrame:
        """Return its row as a table."""
        return self.row.to_frame().T.rename_axis("latent")

    def facts(self) -> list[str]:
        """Return what is known of it, in words.

        Example:
            >>> Latent(3, pd.Series({"density": 0.02, "alignment": 0.3}), []).facts()
            ['latent 3', 'fires on 2.0 %', 'alignment 0.3']
        """
        row = self.row
        said = [f"latent {self.number}"]
        said += [f"fires on {percent(row['density'], 1)}"] if "density" in row else ["never fires"]
        said += [f"alignment {compact(row['alignment'], 2)}"] if pd.notna(row.get("alignment")) else []
        if row.get("attribution_class"):
            said.append(f"drives {row['attribution_class']} most (attribution {compact(row['attribution'])})")
        return said

    def _repr_html_(self) -> str:
        pictures = [webp_uri(thumbnail(e, SIDE)) for e in self.examples if not isinstance(e, str)]
        texts = [e for e in self.examples if isinstance(e, str)]
        context = {
            "name": self.name,
            "facts": self.facts(),
            "pictures": pictures,
            "texts": texts,
            "side": SIDE,
        }
        return render_cell("lightning_sae.runs", "latent.html.jinja", context)
