"""The examples of many latents: each picture once, as a small cell of a few large pictures, or texts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from PIL import Image

from lightning_sae.progress import track
from lightning_sae.report import plain, webp_uri
from lightning_sae.report.thumbnails import thumbnail

SIDE = 64  # pixels of a cell
ROW = 16  # cells of a row of a sheet, and rows of a sheet
MOST = 4096  # examples of a page: 14 MB of noise, 5 MB of photographs
LETTERS = 300  # of a text


class ExampleSheets(NamedTuple):
    """Examples of latents.

    Attributes:
        places: image id -> its place in the sheets, row by row and sheet by sheet, or in the texts.
        sheets: sources of the sheets, `ROW * ROW` pictures each; empty where the examples are texts.
        texts: the examples as texts; empty where they are pictures.
        side: pixels of a picture.
    """

    places: dict[int, int]
    sheets: list[str]
    texts: list[str]
    side: int = SIDE


def are_texts(images: Any, wanted: Sequence[int]) -> bool:
    """Return whether all examples are texts."""
    return bool(wanted) and all(isinstance(images[i], str) for i in wanted)  # the first picture ends it


def collect_examples(
    images: Any, wanted: Sequence[int], side: int = SIDE, texts: bool | None = None
) -> ExampleSheets:
    """Draw examples, or write them down where all are texts.

    Args:
        images: a split: id -> RGB image, or text.
        wanted: ids, each once.
        side: pixels of a picture.
        texts: whether all examples are texts; `None` looks at them to find out.
    """
    places = {image_id: place for place, image_id in enumerate(wanted)}
    if are_texts(images, wanted) if texts is None else texts:
        return ExampleSheets(places, [], [plain(shortened(images[i])) for i in wanted], side)
    size = ROW * ROW
    starts = track(range(0, len(wanted), size), "drawing the pictures", unit="sheets")
    sheets = [_sheet(images, wanted[start : start + size], side) for start in starts]
    return ExampleSheets(places, sheets, [], side)


def shortened(text: str) -> str:
    """Return a text of at most `LETTERS` letters; an ellipsis says that there were more.

    Example:
        >>> len(shortened("a" * 1000)), shortened("a dog")
        (300, 'a dog')
    """
    return text if len(text) <= LETTERS else text[: LETTERS - 1] + "…"


def _sheet(images: Any, ids: Sequence[int], side: int) -> str:
    sheet = Image.new("RGB", (ROW * side, -(-len(ids) // ROW) * side))
    for place, image_id in enumerate(ids):
        row, column = divmod(place, ROW)
        sheet.paste(thumbnail(images[image_id], side), (column * side, row * side))
    return webp_uri(sheet)
