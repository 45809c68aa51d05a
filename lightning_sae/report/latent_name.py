"""The name of a latent, written into a picture."""

from typing import Any

from matplotlib.axes import Axes

from lightning_sae.concepts.naming import LatentName
from lightning_sae.report.palette import GREY


def write_name(axes: Axes, name: LatentName, x: float, y: float, colour: str, after: str = "") -> None:
    """Write a name, its guess in grey, and a further text on one line of a picture.

    Args:
        axes: to write on.
        name: name of the latent.
        x: where the line begins, in the units of the axes.
        y: its base line.
        colour: colour of everything but the guess.
        after: the further text, such as the class that the latent drives.
    """
    words = ((name.shown, colour, "bold"), (name.guess, GREY, "normal"), (after, colour, "bold"))
    place: dict[str, Any] = {"xy": (x, y), "xytext": (0, 0), "va": "baseline"}
    for text, ink, weight in words:
        if text:
            form: dict[str, Any] = {"fontsize": 11, "color": ink, "weight": weight, "parse_math": False}
            written = axes.annotate(text, textcoords="offset points", **place, **form)
            place = {"xy": (1, 0), "xycoords": written, "xytext": (6, 0), "va": "bottom"}
