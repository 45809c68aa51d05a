"""Maps of where latents fire in their top images, for hook points whose tokens are places."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_sae.clip.sight import token_grid
from lightning_sae.data.store.activations import ActivationStore
from lightning_sae.runs.folder import RunFolder

BYTES = 1_500_000  # of all maps
IMAGES = 4  # of a latent, at most
CHUNK = 64  # images at a time


def grid_of(run: RunFolder) -> tuple[int, int] | None:
    """Return the rows and columns of the tokens' places; `None` where the tokens of a run are no places."""
    clip = run.data.clip
    return None if clip.reads_texts else token_grid(clip, run.data.shape.tokens)


@torch.no_grad()
def token_maps(
    run: RunFolder, store: ActivationStore, tops: Sequence[tuple[int, Sequence[int]]], grid: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return where latents fire in their top images, as shares of the largest activation there.

    Args:
        run: the run with the autoencoder.
        store: store of the validation images, with all their tokens.
        tops: latents, each with its top images; the first `IMAGES` images are looked at, and as many latents
            as there is room for.
        grid: rows and columns of the places.

    Returns:
        `[m, IMAGES, rows, columns]` uint8, the first `m` of the latents.
    """
    places = grid[0] * grid[1]
    tops = tops[: BYTES // (IMAGES * places)]
    maps = np.zeros((len(tops), IMAGES, *grid), np.uint8)
    wanted: dict[int, list[tuple[int, int]]] = {}
    for row, (_, images) in enumerate(tops):
        for place, image in enumerate(images[:IMAGES]):
            wanted.setdefault(image, []).append((row, place))
    ids = sorted(wanted)
    for chunk in (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)):
        x = store.images(torch.tensor(chunk)).to(run.sae.W_dec.device)
        _, latents = run.sae(x.flatten(0, 1))
        for i, image in enumerate(chunk):
            own = latents.slice(i * x.shape[1], (i + 1) * x.shape[1])
            for row, place in wanted[image]:
                mine = own.columns(torch.tensor([tops[row][0]]))
                tokens = mine.to_dense()[-places:, 0].float()
                shares = tokens / tokens.max().clamp_min(1e-12)
                maps[row, place] = (255 * shares).round().byte().cpu().numpy().reshape(grid)
    return maps
