"""Which latents are active: the k largest pre-activations of each token, exactly."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lightning_sae.sae.backend import uses_triton
from lightning_sae.sae.kernels import dot
from lightning_sae.sae.pattern import Pattern
from lightning_sae.sae.workspace import Workspace

Selection = Literal["auto", "exact", "screened", "checked"]

CHUNK = 1024  # tokens whose pre-activations exist at one time; a GPU, which launches slowly, gets more
GPU_CHUNKS = 8
CANDIDATES = 1.5  # times k, of a screening
TRITON_K = 1024  # largest k that its kernel takes
ROUNDING = 2.0**-8  # bf16 keeps eight bits: no number is off by more than half of this


@torch.no_grad()
def select(
    x: Tensor,
    rows: Tensor,
    bias: Tensor,
    k: int,
    selection: Selection = "exact",
    workspace: Workspace | None = None,
) -> tuple[Tensor, Tensor]:
    """Indices and values of the `k` largest pre-activations `x @ rows.T + bias` of each token.

    A screening makes the dense product in bf16 and takes `1.5 k` candidates from it, which are ranked again
    in full precision: rounded pre-activations alone pick wrong latents. A checked one also proves for each
    token that no other latent can belong to the `k` largest, by a bound on the rounding, and selects exactly
    where it cannot.

    Args:
        x: `[n, d_in]`.
        rows: `[d_sae, d_in]`.
        bias: `[d_sae]`.
        k: in `1..d_sae`.
        selection: `exact`, `screened` or `checked`; `auto` is `screened` under autocast and where the
            hardware multiplies bf16 matrices, else `exact`.
        workspace: where the pre-activations of a chunk may take their memory from.

    Returns:
        `[n, k]` int64 and `[n, k]` in full precision, without a gradient. Order, and choice between equal
        pre-activations, are unspecified.

    Example:
        >>> x, rows = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])
        >>> indices, pre_acts = select(x, rows, torch.zeros(3), k=2, selection="checked")
        >>> pre_acts.sort().values.tolist()
        [[1.0, 2.0]]
    """
    workspace = workspace or Workspace()
    if selection == "auto":
        selection = "screened" if _bf16_is_fast(x.device.type) else "exact"
    with torch.autocast(x.device.type, enabled=False), full_precision():
        if selection == "exact":
            return _largest(x, rows, bias, k, workspace)
        n_candidates = min(len(rows), math.ceil(CANDIDATES * k))
        low = x.bfloat16(), rows.bfloat16(), bias.bfloat16()
        candidates, rounded = _largest(*low, n_candidates, workspace)
        exact = dot(x, rows, Pattern.from_topk(candidates, len(rows))).view_as(candidates) + bias[candidates]
        best = exact.topk(k, sorted=False)
        indices, pre_acts = candidates.gather(1, best.indices), best.values
        if selection == "checked" and n_candidates < len(rows):
            highest = _highest_outside(x, rows, bias, rounded.amin(1))
            unproven = (pre_acts.amin(1) < highest).nonzero().squeeze(1)
            indices[unproven], pre_acts[unproven] = _largest(x[unproven], rows, bias, k, workspace)
        return indices, pre_acts


def _largest(x: Tensor, rows: Tensor, bias: Tensor, k: int, workspace: Workspace) -> tuple[Tensor, Tensor]:
    """Indices and values `[n, k]` of the largest entries of the dense product, in the precision of `x`."""
    indices, values = [], []
    for part in chunks_of_pre_activations(x, rows, bias, workspace):
        indices.append(top_k(part, k))
        values.append(part.gather(1, indices[-1]))
    return torch.cat(indices), torch.cat(values)


def chunks_of_pre_activations(
    x: Tensor, rows: Tensor, bias: Tensor, workspace: Workspace
) -> Iterator[Tensor]:
    """The dense product `x @ rows.T + bias` of some tokens after the other, in the same memory."""
    size = CHUNK * (GPU_CHUNKS if x.is_cuda else 1)
    pre_acts = workspace.take([min(size, len(x)), len(rows)], x.dtype, x.device)
    for chunk in torch.split(x, size):
        yield torch.addmm(bias, chunk, rows.T, out=pre_acts[: len(chunk)])
    workspace.give(pre_acts)


@contextmanager
def full_precision() -> Iterator[None]:
    """TF32, where it is allowed, would round products of float32 as bf16 does."""
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, False
    try:
        yield
    finally:
        matmul.allow_tf32 = before


def _highest_outside(x: Tensor, rows: Tensor, bias: Tensor, cut: Tensor) -> Tensor:
    """`[n]`, what no latent that is not a candidate can exceed.

    Rounding `x` and `rows` moves a product by at most `2^-8 ||x|| ||row||`, the bias and the result by `2^-9`
    of themselves; what is doubled or a little more here covers the products of these errors and the sums.
    """
    product = x.norm(dim=1) * rows.norm(dim=1).max()
    cut = cut.to(x)
    highest: Tensor = cut + ROUNDING * (1.05 * product + bias.abs().max() + cut.abs())
    return highest


def top_k(pre_acts: Tensor, k: int, groups: int = 16) -> Tensor:
    """Indices of the `k` largest entries of each row, exact, in two stages.

    The `k` strided groups with the largest maxima contain a top-k set, so the second, small selection looks
    at them only. The order within a row is unspecified, and so is the choice between equal entries.

    Args:
        pre_acts: `[n, d_sae]`.
        k: in `1..d_sae`.
        groups: entries per group; one plain selection where `d_sae` isn't a multiple, or is small.

    Returns:
        `[n, k]` int64.

    Example:
        >>> top_k(torch.tensor([[0.1, 3.0, -1.0, 2.0]]), k=2, groups=2).sort().values.tolist()
        [[1, 3]]
    """
    if uses_triton(pre_acts) and k <= TRITON_K:
        from lightning_sae.sae import triton_kernels

        return triton_kernels.top_k(pre_acts, k)
    n, d_sae = pre_acts.shape
    width = d_sae // groups
    if d_sae % groups or width < k:
        return pre_acts.topk(k, sorted=False).indices
    grouped = pre_acts.view(n, groups, width)
    best = _partition(grouped.amax(1), k)
    candidates = grouped.gather(2, best[:, None, :].expand(n, groups, k)).view(n, groups * k)
    chosen = _partition(candidates, k)
    return torch.div(chosen, k, rounding_mode="floor") * width + best.gather(1, chosen % k)


def _partition(values: Tensor, k: int) -> Tensor:
    """Indices of the `k` largest of each row; NumPy's way is the faster one on a CPU."""
    if values.device.type != "cpu":
        return values.topk(k, sorted=False).indices
    return torch.from_numpy(np.argpartition(values.float().numpy(), -k, axis=1)[:, -k:])


def _bf16_is_fast(device: str) -> bool:
    """Whether mixed precision is asked for, or there are units that multiply bf16 matrices."""
    if torch.is_autocast_enabled(device):
        return True
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device == "cpu" and bool(torch.cpu._is_amx_tile_supported())
