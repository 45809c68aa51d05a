"""What the latents of a hook point are called."""

import pandas as pd
import torch
from torch import Tensor

from lightning_sae.concepts.labelling import LabelTests, guess_names, name_latents
from lightning_sae.concepts.naming import LatentName
from lightning_sae.concepts.vocabulary import EmbeddedVocabulary
from lightning_sae.metrics import ImageLatents, top_images
from lightning_sae.progress import track
from lightning_sae.runs.folder import RunFolder
from lightning_sae.runs.layers import RunLayer


@torch.no_grad()
def layer_names(run: RunFolder, name: str, layer: RunLayer) -> list[LatentName]:
    """Return the names of the latents of a hook point.

    The names are those in the table of the hook point. The table of an earlier hook point of the run itself
    may have none: the judge then names the latents by one more pass over the validation activations.

    Args:
        run: `ready`.
        name: short, of the hook point.
        layer: the hook point.
    """
    if "label" in layer.latents or name not in run.data.earlier:
        return _in_table(layer)
    data, place = run.data, list(run.data.earlier).index(name)
    images = ImageLatents(layer.sae.d_sae).to(data.clip.device)
    images.distributed_available_fn = lambda: False  # one process looks at all images
    for batch in track(data.val_dataloader(), f"naming the latents of {name}", unit="batches"):
        images.update(layer.sae.encode(batch.earlier[place]), batch.image_ids)
    latents, ids = images.latents()
    most = max([1, *(len(texts.split()) for texts in layer.latents.get("top_images", []))])
    words = _vocabulary(run, data.judge_embeddings)
    top_ids = top_images(latents, ids, most)[1]
    return name_latents(latents, top_ids, words, data.judge_embeddings, LabelTests.of(run.config))


def guessed_layer_names(run: RunFolder, name: str, layer: RunLayer) -> list[LatentName]:
    """Return the names of the latents of a hook point without a pass over activations.

    Names that the table lacks are guessed from the top images, unlike in `layer_names`. Nothing is tested, so
    a guessed name cannot be relied on.

    Args:
        run: opened.
        name: short, of the hook point.
        layer: the hook point.
    """
    if "label" in layer.latents or name not in run.data.earlier:
        return _in_table(layer)
    tops = layer.latents.get("top_images", pd.Series(dtype=str)).reindex(
        range(layer.sae.d_sae), fill_value=""
    )
    ids = [[int(i) for i in str(texts).split()] for texts in tops]
    most = max(1, *map(len, ids))
    padded = torch.tensor([[*row] + [-1] * (most - len(row)) for row in ids])
    embeddings = run.judge_embeddings()
    return guess_names(padded, _vocabulary(run, embeddings), embeddings)


def _in_table(layer: RunLayer) -> list[LatentName]:
    rows = layer.latents.reindex(range(layer.sae.d_sae))
    return [LatentName.of(row) for row in rows.to_dict("records")]


def _vocabulary(run: RunFolder, like: Tensor) -> EmbeddedVocabulary:
    return run.vocabulary().embed(run.data.judge, run.data.images("val").vocabulary).to(like)
