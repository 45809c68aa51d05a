"""The pictures of a page: as many as there is room for, and as large as the room allows."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

from lightning_sae.browser.examples import SHOWN, LatentExamples, by_relevance
from lightning_sae.browser.sheets import ROW, ExampleSheets, are_texts, collect_examples
from lightning_sae.runs.folder import RunFolder

BYTES = 11_000_000  # of all pictures, as letters of the page
SIDES = (96, 64, 48)  # pixels; the largest for which there is room
MOST = 12_000  # pictures: what a page says of each image needs room too
TEXTS = 20_000  # where the examples are texts


def chosen_examples(
    run: RunFolder, first_images: Sequence[int], first_latents: Iterable[int] = (), room: int = BYTES
) -> LatentExamples:
    """Return examples of as many latents as there is room for.

    First come the images that are asked for, then the top image of every latent, then the second one of
    every latent, and so on, so that each of many latents has a picture before any has eight.

    Args:
        run: an opened run with its latents.
        first_images: ids of images that come first, each once.
        first_latents: latents whose images come before those of other latents.
        room: bytes that all pictures may take together.
    """
    images = run.data.images("val")
    tops = _tops(run, first_latents)
    rounds = zip_longest(*tops.values(), fillvalue=-1)
    wanted = dict.fromkeys([*first_images, *(i for row in rounds for i in row if i >= 0)])
    sheets = _sized(images, [*wanted], room)
    shown = {j: [sheets.places[i] for i in top if i in sheets.places] for j, top in tops.items()}
    return LatentExamples(sheets, {j: places for j, places in shown.items() if places})


def _tops(run: RunFolder, first: Iterable[int]) -> dict[int, list[int]]:
    if "top_images" not in run.latents:
        return {}
    order = by_relevance(run.latents, first)
    texts = dict(zip(run.latents.index, run.latents["top_images"], strict=True))
    return {j: [int(i) for i in str(texts[j]).split()[:SHOWN]] for j in order}


def _sized(images: Any, wanted: list[int], room: int) -> ExampleSheets:
    """Return the pictures at the largest side for which there is room, or as many as fit at the smallest."""
    if not wanted or are_texts(images, wanted):
        return collect_examples(images, wanted[:TEXTS])
    wanted = wanted[:MOST]
    for side in SIDES:
        sample = collect_examples(images, wanted[: ROW * ROW], side, texts=False)
        each = len(sample.sheets[0]) / len(sample.places)
        if each * len(wanted) <= room or side == SIDES[-1]:
            break
    if len(wanted) <= ROW * ROW:
        return sample
    most = max(ROW * ROW, int(room / each))
    return collect_examples(images, wanted[:most], side, texts=False)
