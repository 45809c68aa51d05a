"""One image and some prompts: the latents that drive the scores, their meaning, the scores without them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from lightning_sae.attribution.ablation import ablate
from lightning_sae.attribution.explained import Explained
from lightning_sae.attribution.gradient import token_sums
from lightning_sae.attribution.methods import ActGrad
from lightning_sae.classifiers.outputs import Output
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.clip import capture_context, make_tail
from lightning_sae.concepts.naming import name_columns, names_of
from lightning_sae.explain.prompt_meaning import PromptMeaning
from lightning_sae.runs.folder import RunFolder


class PromptExplanation(NamedTuple):
    """The latents that drive the score of one prompt.

    Attributes:
        prompt: the text.
        score: score of the image and the prompt.
        positive: sum of the positive attributions of all active latents, >= 0.
        negative: sum of the negative attributions, <= 0.
        drivers: a row per latent, the largest attribution first: `latent`; `label`, `named` and `alignment`
            of the run; `prompt_alignment`, mean cosine of its top images with this prompt by the judge;
            `unexpected`, whether the latent raises the score and its top images agree with the prompt no
            better than random ones, and, where the prompt names a class of the data, worse than images of
            the class; `activation`, the largest over the tokens; `attribution`, summed over the tokens;
            `effect`, the score without the latent minus the score.
        tokens: `[1 + drivers, t]` attribution of each token: of all latents together, then of each driver.
    """

    prompt: str
    score: float
    positive: float
    negative: float
    drivers: pd.DataFrame
    tokens: Tensor


def explain(
    run: RunFolder, image: Image.Image, prompts: Sequence[str], output: Output | str = "logit", top: int = 8
) -> list[PromptExplanation]:
    """Return the latents with the largest absolute attributions to each prompt's score.

    Args:
        run: a finished run.
        image: in RGB.
        prompts: texts as they are, no template is put around them.
        output: the score; `margin` and `probability` compare the prompts with each other.
        top: number of latents per prompt.

    Raises:
        ValueError: the run's data are texts; no prompt, an empty one, `top` below 1, or one prompt where
            prompts are compared.
        FileNotFoundError: the store of the run has moved.
    """
    check_request(prompts, top)
    if run.data.hook.is_text:
        raise ValueError(
            f"{run.folder} has latents of texts ({run.data.hook}), and no image reaches them: latents.csv "
            "and attribution.csv say what they mean and drive; to explain an image, name a run whose "
            "hook_point lies in `visual`"
        )
    data, sae = run.data, run.sae.to(run.data.clip.device)
    tail = make_tail(data.clip, data.hook)
    pixels = data.clip.preprocess(image)[None].to(data.clip.device)
    x, context = capture_context(data.clip, data.hook, tail, pixels)
    seen = Explained.of(tail, sae, x, context)
    scores = ClassScores(data.clip.encode_text(prompts), output, data.clip.logit_scale)
    meaning = PromptMeaning(run)
    return [_explain(run, seen, scores, c, prompt, meaning, top) for c, prompt in enumerate(prompts)]


def check_request(prompts: Sequence[str], top: int) -> None:
    """Refuse prompts and numbers of latents that cannot be explained, before anything is loaded.

    Raises:
        ValueError: no prompt, an empty one, one with bytes that are not UTF-8, or `top` below 1.
    """
    if not prompts:
        raise ValueError("there is no prompt: give at least one, as --prompt 'a photo of a star'")
    for prompt in prompts:
        if not prompt.strip():
            raise ValueError(f"a prompt must hold words, got {prompt!r}")
        if any("\ud800" <= letter <= "\udfff" for letter in prompt):
            raise ValueError(f"a prompt must be text in UTF-8, got {prompt!r}: check the terminal's encoding")
    if top < 1:
        raise ValueError(f"top, the latents per prompt, must be at least 1, got {top}")


def _explain(
    run: RunFolder,
    seen: Explained,
    scores: ClassScores,
    c: int,
    prompt: str,
    meaning: PromptMeaning,
    top: int,
) -> PromptExplanation:
    score = scores.of(torch.tensor([c], device=seen.x.device))
    attributions = seen.latents.with_values(ActGrad()(seen, score))
    active = torch.unique(seen.latents.indices[seen.latents.values > 0])
    total = _per_latent(attributions.values, seen, active)
    chosen = total.abs().topk(min(top, len(active))).indices
    chosen = chosen[total[chosen].argsort(descending=True)]
    latents = active[chosen].tolist()
    whole = float(score(seen.tail(seen.x, seen.context), slice(0, 1)))
    drivers = run.latents.reindex(latents).reindex(columns=["label", "named", "alignment"])
    drivers = drivers.assign(**name_columns(names_of(drivers)))
    drivers["alignment"] = pd.to_numeric(drivers["alignment"])
    aligned, below = meaning.judge([run.top_images(j) for j in latents], prompt)
    attribution = total[chosen].cpu()
    drivers["prompt_alignment"], drivers["unexpected"] = aligned.numpy(), (below & (attribution > 0)).numpy()
    drivers["activation"] = [float(seen.latents.values[seen.latents.indices == j].max()) for j in latents]
    effect = np.zeros(len(latents))
    for edited in ablate(seen, [[j] for j in latents]):
        rows = edited.removal.tolist()
        without = scores(edited.embeddings)[:, c].cpu().numpy()
        effect[rows] = without - whole
    drivers["attribution"], drivers["effect"] = attribution.numpy(), effect
    tokens = [token_sums(attributions, j).cpu() for j in (None, *latents)]
    positive, negative = (float(part.sum()) for part in (total.clamp(min=0), total.clamp(max=0)))
    drivers = drivers.rename_axis("latent").reset_index()
    return PromptExplanation(prompt, whole, positive, negative, drivers, torch.stack(tokens))


def _per_latent(values: Tensor, seen: Explained, active: Tensor) -> Tensor:
    """Return the sum over the tokens for each active latent."""
    sums = values.new_zeros(seen.latents.d_sae).index_add_(0, seen.latents.indices, values)
    return sums[active]
