"""Ways to say how much each active latent of an image drives a score; all keep the error term.

A method is called with some images and a score, and gives a value for every entry of their latents, in the
order of `latents.values`: one for each token and latent. The configuration names the classes.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lightning_sae.attribution.explained import Explained
from lightning_sae.attribution.gradient import attribute, gradient
from lightning_sae.classifiers.scores import ClassScores, ImageScore
from lightning_sae.clip import Tail, last_block
from lightning_sae.sae.kernels.pattern import Pattern
from lightning_sae.sae.kernels.products import bag
from lightning_sae.types import SparseLatents


class ActGrad:
    """Activation x gradient: `R_j = a_j <w_j, dy/dx>` (Dreyer et al. 2025, arXiv 2505.20229).

    Args:
        batch_size: images whose graph is held at a time.
    """

    name = "act_grad"

    def __init__(self, batch_size: int = 64) -> None:
        self.batch_size = batch_size

    def __call__(self, explained: Explained, score: ImageScore) -> Tensor:
        """Return `[nnz]`."""
        g = gradient(explained.tail, explained.x, score, explained.context, self.batch_size)
        return attribute(explained.latents, explained.W_dec, g.flatten(0, 1))


def attribute_own(explained: Explained, scores: ClassScores, classes: Tensor) -> SparseLatents:
    """Return activation x gradient of each image's own class, summed over its tokens.

    Args:
        explained: `n` images.
        scores: of the classes.
        classes: `[n]` int64.

    Returns:
        `R_j` of the `n` images; latents that are silent on an image are left out.
    """
    n, t, _ = explained.x.shape
    values = ActGrad(batch_size=n)(explained, scores.of(classes))
    return explained.latents.with_values(values).sum_tokens(t)


class IntegratedGradients:
    """Path integral of activation x gradient, all active latents growing jointly from 0 to `a`.

    `x(alpha) = x - (1 - alpha) sum_j a_j w_j`, `R_j = a_j <w_j, integral_0^1 dy/dx(x(alpha)) dalpha>` by the
    midpoint rule; error term and bias stay. `sum_j R_j = y(x) - y(x - sum_j a_j w_j)` as the steps grow
    (Sundararajan et al. 2017, arXiv 1703.01365).

    Args:
        steps: points of the path.
        batch_size: images whose graph is held at a time.

    Raises:
        ValueError: fewer than one step.
    """

    name = "integrated_gradients"

    def __init__(self, steps: int = 16, batch_size: int = 64) -> None:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        self.steps, self.batch_size = steps, batch_size

    def __call__(self, explained: Explained, score: ImageScore) -> Tensor:
        """Return `[nnz]`."""
        active, total = _active(explained), torch.zeros_like(explained.x)
        for step in range(self.steps):
            x = explained.x - (1 - (step + 0.5) / self.steps) * active
            total += gradient(explained.tail, x, score, explained.context, self.batch_size)
        return attribute(explained.latents, explained.W_dec, total.flatten(0, 1) / self.steps)


class Ablation:
    """The truth that the others approximate: `y(x) - y(x - a_j w_j)`, one run of the tail per active entry.

    Args:
        chunk: edited images in one call of the tail.
    """

    name = "ablation"

    def __init__(self, chunk: int = 256) -> None:
        self.chunk = chunk

    @torch.no_grad()
    def __call__(self, explained: Explained, score: ImageScore) -> Tensor:
        """Return `[nnz]`, 0 where the latent is not active."""
        latents, tokens = explained.latents, explained.x.shape[1]
        effects, rows = torch.zeros_like(latents.values), latents.rows()
        for entries in torch.split((latents.values > 0).nonzero().flatten(), self.chunk):
            image, token = rows[entries] // tokens, rows[entries] % tokens
            x = explained.x[image]
            removed = latents.values[entries, None] * explained.W_dec[latents.indices[entries]]
            x[torch.arange(len(x), device=x.device), token] -= removed
            context = None if explained.context is None else explained.context[image]
            effects[entries] = -score(explained.tail(x, context), image)
        whole = score(explained.tail(explained.x, explained.context), slice(0, len(explained.x)))
        return torch.where(latents.values > 0, whole[explained.image_rows()] + effects, 0.0)


class LogitLens:
    """The score of the decoder direction itself, read as an image; the activation plays no part.

    `y(head(w_j)) - y(head(0))`, `head` being what follows the last block: at an earlier layer the blocks
    between are skipped (nostalgebraist 2020, *interpreting GPT: the logit lens*).

    Args:
        chunk: entries scored at a time.

    Raises:
        ValueError: on the call, of a model without such a head, or activations of another width.
    """

    name = "logit_lens"

    def __init__(self, chunk: int = 4096) -> None:
        self.chunk = chunk

    @torch.no_grad()
    def __call__(self, explained: Explained, score: ImageScore) -> Tensor:
        """Return `[nnz]`."""
        used, entry = torch.unique(explained.latents.indices, return_inverse=True)
        rows = torch.cat([explained.W_dec[used], torch.zeros_like(explained.W_dec[:1])])
        directions, image = _head(explained)(rows), explained.image_rows()
        pairs = zip(torch.split(entry, self.chunk), torch.split(image, self.chunk), strict=True)
        values = [score(directions[chosen], images) for chosen, images in pairs]
        base = score(directions[-1].expand(len(explained.x), -1), slice(0, len(explained.x)))
        return torch.cat(values) - base[image]


class ActLogitLens(LogitLens):
    """Activation x logit lens: `a_j (y(head(w_j)) - y(head(0)))`."""

    name = "act_logit_lens"

    def __call__(self, explained: Explained, score: ImageScore) -> Tensor:
        """Return `[nnz]`."""
        return explained.latents.values * super().__call__(explained, score)


class Activation:
    """The activation `a_j`, which knows nothing of the score."""

    name = "activation"

    def __call__(self, explained: Explained, score: ImageScore) -> Tensor:
        """Return `[nnz]`."""
        return explained.latents.values


class Random:
    """Uniform noise in [0, 1), the same for an image in whatever batch it comes, on whatever device.

    Args:
        seed: of the noise, with the image's id.
    """

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __call__(self, explained: Explained, score: ImageScore) -> Tensor:
        """Return `[nnz]`."""
        latents = explained.latents
        ids = range(len(explained.x)) if explained.image_ids is None else explained.image_ids.tolist()
        sizes = latents.offsets[:: explained.x.shape[1]].diff().tolist()
        noise = [np.random.default_rng([self.seed, i]).random(m) for i, m in zip(ids, sizes, strict=True)]
        drawn = torch.from_numpy(np.concatenate([np.empty(0), *noise])).to(latents.values)
        order = (latents.rows() * latents.d_sae + latents.indices).argsort()  # devices order a row otherwise
        return torch.empty_like(drawn).scatter_(0, order, drawn)


@torch.no_grad()
def _active(explained: Explained) -> Tensor:
    """Return `sum_j a_j w_j` of every token, `[n, t, d_in]`."""
    latents = explained.latents
    pattern = Pattern.of(latents)
    return bag(latents.values, explained.W_dec, pattern).view_as(explained.x)


def _head(explained: Explained) -> Callable[[Tensor], Tensor]:
    """Return the map from directions `[m, d_in]` to unit embeddings `[m, d_embed]` that skips all blocks."""
    tail, d_in = explained.tail, explained.W_dec.shape[1]
    if not isinstance(tail, Tail) or tail.needs == "nothing":
        return lambda rows: tail(rows[:, None], None)
    last = last_block(tail.clip, tail.hook_point.is_text)
    if last is None or last.width != d_in:
        raise ValueError(
            f"the logit lens needs a transformer and activations of its width, got {tail.clip.name} with "
            f"{d_in} at {tail.hook_point}; leave the method out"
        )
    # an image all of whose tokens are the direction: right for a class token and for a mean
    return lambda rows: last.tail(rows[:, None].expand(-1, last.tokens, -1), rows[:, None])
