"""Values of the same pairs as edges, by less than a gradient, or by more than one."""

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from lightning_sae.attribution.edges.edges import edges
from lightning_sae.attribution.edges.layers import SeenLayer
from lightning_sae.attribution.edges.linearised import Linearised
from lightning_sae.attribution.edges.pair_sums import Pairs
from lightning_sae.attribution.edges.targets import LatentTargets
from lightning_sae.sae.kernels.pattern import Pattern
from lightning_sae.sae.kernels.products import bag


def by_weights(seen: SeenLayer, later: SeenLayer, pairs: Pairs) -> Pairs:
    """Return `<w_i, u_j>` of each pair: the decoder row of the source, the encoder row of the target.

    Args:
        seen: images at the earlier layer.
        later: at the next.
        pairs: of latents, which targets and sources are.

    Raises:
        ValueError: layers of other widths.
    """
    rows, slopes = seen.explained.W_dec, later.layer.sae.encoder_slopes().to(seen.explained.W_dec)
    if rows.shape[1] != slopes.shape[1]:
        raise ValueError(
            f"weights alone compare layers of one width, got {rows.shape[1]} at {seen.layer.hook_point} and "
            f"{slopes.shape[1]} at {later.layer.hook_point}"
        )
    parts = zip(torch.split(pairs.target, 1 << 16), torch.split(pairs.source, 1 << 16), strict=True)
    return pairs._replace(value=torch.cat([(rows[i] * slopes[j]).sum(1) for j, i in parts]))


def by_coactivation(seen: SeenLayer, later: SeenLayer, pairs: Pairs) -> Pairs:
    """Return the correlation over images of the activations of each pair, summed over an image's tokens.

    Args:
        seen: images at the earlier layer; many.
        later: the same images at the next.
        pairs: of latents, which targets and sources are; NaN where one of them does not vary.
    """
    a, b = (_by_image(layer) for layer in (seen, later))
    n, products = a.shape[0], (b.T @ a).tocsr()
    j, i = (part.cpu().numpy().copy() for part in (pairs.target, pairs.source))
    means = [part.sum(axis=0) / n for part in (a, b)]
    squares = [part.power(2).sum(axis=0) / n for part in (a, b)]
    spreads = [np.sqrt((s - m**2).clip(min=0)) for s, m in zip(squares, means, strict=True)]
    covariance, spread = products[j, i] / n - means[0][i] * means[1][j], spreads[0][i] * spreads[1][j]
    return pairs._replace(value=torch.from_numpy(covariance / np.where(spread > 0, spread, np.nan)))


def by_integration(seen: SeenLayer, targets: LatentTargets, steps: int = 8, by_token: bool = False) -> Pairs:
    """Return the path integral of activation x gradient, all active sources growing jointly from 0 to `a`.

    As `IntegratedGradients` does to scores, by the midpoint rule; error term and bias stay. Sundararajan et
    al. 2017, arXiv 1703.01365.

    Args:
        seen: images at the earlier layer.
        targets: on the same images.
        steps: points of the path.
        by_token: see `edges_to_latents`.

    Raises:
        ValueError: fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    onward = seen.onward
    active = bag(onward.latents.values, onward.W_dec, Pattern.of(onward.latents)).view_as(onward.x)
    total: Tensor | None = None
    for step in range(steps):
        x = onward.x - (1 - (step + 0.5) / steps) * active
        found = edges(seen, Linearised(onward.tail, x, onward.context, "gradient"), targets, by_token).pairs
        total = found.value if total is None else total + found.value
    assert total is not None
    return found._replace(value=total / steps)


def _by_image(layer: SeenLayer) -> csr_array:
    """Return the activations `[n, d_sae]`, summed over the tokens of each image."""
    explained = layer.explained
    latents = explained.latents.sum_tokens(explained.x.shape[1])
    parts = latents.values.double(), latents.indices, latents.offsets
    return csr_array(tuple(part.cpu().numpy() for part in parts), shape=(len(latents), latents.d_sae))
