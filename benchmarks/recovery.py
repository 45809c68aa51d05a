"""How well known directions are found among the rows of a decoder."""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import normalize

from lightning_sae.types import SparseLatents


def max_cosines(rows: Tensor, directions: Tensor) -> Tensor:
    """Return the largest cosine of each direction with any row, `[m]` in [-1, 1].

    Its mean is the mean maximum cosine similarity (Sharkey et al. 2022). One row may serve two directions.

    Args:
        rows: `[d_sae, d_in]`, not 0.
        directions: `[m, d_in]`, not 0.

    Example:
        >>> max_cosines(torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.eye(2)).tolist()
        [1.0, 0.7071067690849304]
    """
    return (normalize(directions, dim=1) @ normalize(rows, dim=1).T).amax(1)


def match(rows: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Return a row of its own for each direction, so that the sum of |cosines| is largest (Hungarian method).

    Args:
        rows: `[d_sae, d_in]`, not 0, d_sae >= m.
        directions: `[m, d_in]`, not 0.

    Returns:
        `[m]`, the row of each direction, and `[m]`, their |cosine|, in 0..1.

    Raises:
        ValueError: fewer rows than directions.

    Example:
        >>> latents, cosines = match(torch.tensor([[0.8, 0.6], [1.0, 0.0]]), torch.eye(2))
        >>> latents.tolist(), cosines.round(decimals=1).tolist()
        ([1, 0], [1.0, 0.6000000238418579])
    """
    if len(rows) < len(directions):
        raise ValueError(f"{len(directions)} directions need as many rows, got {len(rows)}: widen d_sae")
    cosines = (normalize(directions, dim=1) @ normalize(rows, dim=1).T).abs()
    _, best = linear_sum_assignment(cosines.detach().cpu().numpy(), maximize=True)
    latents = torch.from_numpy(best).to(rows.device)
    return latents, cosines.gather(1, latents[:, None])[:, 0]


def detection_f1(latents: SparseLatents, chosen: Tensor, present: Tensor) -> Tensor:
    """Return F1 of each chosen latent's firing as a detector of its direction, `[m]` in 0..1.

    `2 hits / (2 hits + misses + false alarms)`; 0 where the direction is nowhere and the latent never fires.

    Args:
        latents: of `n` tokens.
        chosen: `[m]`, the latent of each direction.
        present: `[n, m]` bool, where each direction is in the token.

    Example:
        >>> latents = SparseLatents.from_dense(torch.tensor([[1.0], [1.0], [0.0], [0.0]]))
        >>> detection_f1(latents, torch.tensor([0]), torch.tensor([[True], [False], [False], [False]]))
        tensor([0.6667])
    """
    active = latents.values > 0
    rows, indices = latents.rows()[active], latents.indices[active]
    fired = torch.bincount(indices, minlength=latents.d_sae)[chosen]
    direction_of = torch.full((latents.d_sae,), -1, device=chosen.device)
    direction_of[chosen] = torch.arange(len(chosen), device=chosen.device)
    own = direction_of[indices]
    known = own >= 0
    hit = own[known][present[rows[known], own[known]]]
    hits = torch.bincount(hit, minlength=len(chosen))
    return 2 * hits / (fired + present.sum(0)).clamp(min=1)
