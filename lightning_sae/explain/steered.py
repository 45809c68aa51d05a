"""The scores of one image before and after some of its latents are set or scaled."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from lightning_sae.classifiers.outputs import Output
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.clip import capture
from lightning_sae.concepts.naming import name_columns, names_of
from lightning_sae.data.prompts import embed_prompts
from lightning_sae.runs.folder import RunFolder
from lightning_sae.steering.intervention import Edit, check_edits, intervene, wanted


class SteeredImage(NamedTuple):
    """The scores of an image before and after its latents are edited.

    Attributes:
        scores: a row per prompt, or per class of the data without prompts: `prompt`, `before`, `after`,
            `change`; prompts in the given order, classes with the largest change first.
        latents: a row per edited latent: `latent`, `label`, `named`, and its largest activation over the
            tokens, `before` and `after`.
        cosine: cosine between the image's embeddings before and after.
    """

    scores: pd.DataFrame
    latents: pd.DataFrame
    cosine: float


@torch.no_grad()
def steer_image(
    run: RunFolder,
    image: Image.Image,
    edits: Mapping[int, Edit],
    prompts: Sequence[str] = (),
    output: Output | str = "logit",
) -> SteeredImage:
    """Return what editing latents does to the scores of an image (`intervene`).

    Args:
        run: a finished run.
        image: in RGB.
        edits: latent -> the value that it is set to on every token, or `Scale`.
        prompts: texts as they are; without any, the prompts of the data's classes are used.
        output: the score; `margin` and `probability` compare the prompts with each other.

    Raises:
        ValueError: the run's data are texts, or the edits are not valid (`check_edits`).
    """
    data, sae = run.data, run.sae.to(run.data.clip.device)
    check_edits(edits, sae.d_sae)
    if data.hook.is_text:
        raise ValueError(f"{run.folder} has latents of texts ({data.hook}), and no image reaches them")
    pixels = data.clip.preprocess(image)[None].to(data.clip.device)
    with capture(data.clip, [data.hook]) as at:
        plain = data.clip.encode_image(pixels)
    with intervene(data.clip, data.hook, sae, edits):
        steered = data.clip.encode_image(pixels)
    texts = data.clip.encode_text(prompts) if prompts else embed_prompts(data.clip, data.prompts)
    scores = ClassScores(texts.to(plain), output, data.clip.logit_scale)
    before, after = (scores(embeddings)[0].cpu().numpy() for embeddings in (plain, steered))
    table = pd.DataFrame({"prompt": list(prompts or data.class_names), "before": before, "after": after})
    table["change"] = table["after"] - table["before"]
    if not prompts:
        table = table.iloc[np.argsort(-table["change"].abs().to_numpy(), kind="stable")]
    cosine = float((plain * steered).sum())
    return SteeredImage(table, _edited_latents(run, at[data.hook].flatten(0, 1), edits), cosine)


def _edited_latents(run: RunFolder, x: Tensor, edits: Mapping[int, Edit]) -> pd.DataFrame:
    """Return the activations of the edited latents, before and after."""
    latents = list(edits)
    active = run.sae.encode(x).columns(torch.tensor(latents)).to_dense()
    names = names_of(run.latents.reindex(latents))
    table = pd.DataFrame({"latent": latents, **name_columns(names)})
    table["before"] = active.amax(0).cpu().numpy()
    table["after"] = wanted(active, list(edits.values())).amax(0).cpu().numpy()
    return table
