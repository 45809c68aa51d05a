"""Which latents are active: the k largest pre-activations of each token, exactly."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from lightning_sae.sae.kernels.backend import Kernels, uses_triton
from lightning_sae.sae.kernels.pattern import Pattern
from lightning_sae.sae.kernels.products import dot
from lightning_sae.sae.kernels.workspace import Workspace

Selection = Literal["auto", "exact", "screened", "checked"]

CHUNK = 1024  # tokens whose pre-activations exist at one time on a CPU
GPU_BYTES = 2**30  # of pre-activations that exist at one time on a GPU, where larger products are faster
CANDIDATES = 1.5  # times k, of a screening
TRITON_CANDIDATES = 1.25  # and where maxima of groups bring some more
TRITON_K = 1024  # largest k that its kernels take
ROUNDING = 2.0**-8  # bf16 keeps eight bits: no number is off by more than half of this


class Chosen(NamedTuple):
    """A selection of `k` latents of each token.

    Attributes:
        indices: `[n, k]` int64.
        values: `[n, k]` pre-activations in full precision, without a gradient; -inf where there are no more.
    """

    indices: Tensor
    values: Tensor


class Spare(NamedTuple):
    """Latents among which a second selection is made beside the one of all: dead ones.

    Attributes:
        kept: `[d_sae]` bool.
        k: how many of them are selected for each token, at most `d_sae`; missing ones have the value -inf.
    """

    kept: Tensor
    k: int

    @property
    def n_kept(self) -> Tensor:
        """The number of latents that are kept, a scalar on their device."""
        return self.kept.sum()


class Finder(Protocol):
    """Looks at the pre-activations of a batch chunk by chunk, and chooses."""

    def look(self, pre_acts: Tensor) -> None:
        """Take what it needs of the next chunk."""

    def chosen(self, x: Tensor, rows: Tensor, bias: Tensor) -> Chosen:
        """Return the selection, once it has seen all."""


@torch.no_grad()
def select(
    x: Tensor,
    rows: Tensor,
    bias: Tensor,
    k: int,
    selection: Selection = "exact",
    workspace: Workspace | None = None,
    kernels: Kernels = "auto",
) -> Chosen:
    """Return the indices and values of the `k` largest pre-activations `x @ rows.T + bias` of each token.

    A screening makes the dense product in bf16 and takes candidates from it, `1.5 k` or with Triton `1.25 k`
    and what groups bring besides, which are ranked again by sums in float32: rounded pre-activations alone
    pick wrong latents. Rounding moves a pre-activation by about 0.003 of their spread, half a place at
    `k = 64`. A checked screening also proves for each token that no other latent can belong to the `k`
    largest, by a bound on the rounding, and selects exactly where it cannot.

    Args:
        x: `[n, d_in]`.
        rows: `[d_sae, d_in]`.
        bias: `[d_sae]`.
        k: in `1..d_sae`.
        selection: `exact`, `screened` or `checked`; `auto` is `screened` under autocast and where the
            hardware multiplies bf16 matrices, else `exact`.
        workspace: where the pre-activations of a chunk may take their memory from.
        kernels: see `uses_triton`.

    Returns:
        The selection. Order, and choice between equal pre-activations, are unspecified.

    Example:
        >>> x, rows = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])
        >>> indices, pre_acts = select(x, rows, torch.zeros(3), k=2, selection="checked")
        >>> pre_acts.sort().values.tolist()
        [[1.0, 2.0]]
    """
    return select_with_spare(x, rows, bias, k, None, selection, workspace, kernels)[0]


@torch.no_grad()
def select_with_spare(
    x: Tensor,
    rows: Tensor,
    bias: Tensor,
    k: int,
    spare: Spare | None,
    selection: Selection = "exact",
    workspace: Workspace | None = None,
    kernels: Kernels = "auto",
) -> tuple[Chosen, Chosen | None]:
    """Return the same as `select`, and a second selection among some latents, from the same dense product."""
    how = resolve(selection, x)
    wanted = [(k, None)] if spare is None else [(k, None), (spare.k, spare)]
    with full_precision_of(x) as mixed:
        finders = [make_finder(x, how, k, among, kernels, mixed) for k, among in wanted]
        factors = in_precision(how, x, rows, bias)
        for chunk in chunks_of_pre_activations(*factors, workspace or Workspace()):
            for finder in finders:
                finder.look(chunk)
        first, *second = [finder.chosen(x, rows, bias) for finder in finders]
    return first, second[0] if second else None


def resolve(selection: Selection, x: Tensor) -> Selection:
    """Return what `auto` stands for with these activations."""
    if selection != "auto":
        return selection
    return "screened" if _bf16_is_fast(x.device.type) else "exact"


def in_precision(how: Selection, x: Tensor, rows: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the factors of the dense product: as they are, or in bf16 for a screening."""
    return (x, rows, bias) if how == "exact" else (x.bfloat16(), rows.bfloat16(), bias.bfloat16())


def make_finder(
    x: Tensor, how: Selection, k: int, among: Spare | None, kernels: Kernels, mixed: bool
) -> Finder:
    """Return the search for which the device of `x` has kernels.

    Args:
        x: activations.
        how: not `auto`.
        k: in `1..d_sae`.
        among: the latents, `None` for all.
        kernels: see `uses_triton`.
        mixed: whether candidates are ranked again with activations and rows in bf16, as autocast asks for.
    """
    if uses_triton(x, kernels) and k <= TRITON_K:
        return _TritonFinder(how, k, among, mixed, kernels)
    return _Finder(how, k, among, kernels)


class _Finder:
    """A search by PyTorch."""

    def __init__(self, how: Selection, k: int, among: Spare | None, kernels: Kernels) -> None:
        self.how, self.k, self.kernels = how, k, kernels
        self.kept = None if among is None else among.kept
        self.indices: list[Tensor] = []
        self.values: list[Tensor] = []

    def look(self, pre_acts: Tensor) -> None:
        d_sae = pre_acts.shape[1]
        n = self.k if self.how == "exact" else min(d_sae, math.ceil(CANDIDATES * self.k))
        indices, values = largest_of(pre_acts, n, self.kept)
        self.indices.append(indices)
        self.values.append(values)

    def chosen(self, x: Tensor, rows: Tensor, bias: Tensor) -> Chosen:
        candidates, rounded = torch.cat(self.indices), torch.cat(self.values)
        if self.how == "exact":
            return Chosen(candidates, rounded)
        pattern = Pattern.from_topk(candidates, len(rows), self.kernels)
        exact = dot(x, rows, pattern).view_as(candidates) + bias[candidates]
        exact = torch.where(rounded == -torch.inf, -torch.inf, exact)
        best = exact.topk(min(self.k, exact.shape[1]), sorted=False)
        chosen = Chosen(candidates.gather(1, best.indices), best.values)
        if self.how == "checked" and candidates.shape[1] < len(rows):
            return proven(chosen, rounded.amin(1), x, rows, bias, self.kept)
        return chosen


class _TritonFinder:
    """A search by the kernels in Triton."""

    def __init__(self, how: Selection, k: int, among: Spare | None, mixed: bool, kernels: Kernels) -> None:
        from lightning_sae.sae.kernels import triton_selection

        self.triton = triton_selection
        self.how, self.k, self.mixed = how, k, mixed
        self.kept = None if among is None else among.kept
        self.n_kept = None if among is None else among.n_kept
        self.seen: list[triton_selection.Candidates] = []
        self.values: list[Tensor] = []

    def look(self, pre_acts: Tensor) -> None:
        d_sae = pre_acts.shape[1]
        n = self.k if self.how == "exact" else min(d_sae, math.ceil(TRITON_CANDIDATES * self.k))
        found = self.triton.candidates(pre_acts, n, self.kept, self.n_kept)
        self.seen.append(found)
        if self.how == "exact":
            columns = found.found.view(len(pre_acts), -1).long().clamp(0, d_sae - 1)
            self.values.append(pre_acts.gather(1, columns).float().view(1, -1))

    def chosen(self, x: Tensor, rows: Tensor, bias: Tensor) -> Chosen:
        found = self.seen[0]
        if len(self.seen) > 1:
            found = self.triton.Candidates(*map(torch.cat, zip(*self.seen, strict=True)))
            starts = torch.arange(len(x), device=x.device) * (len(found.found) // len(x))
            found = found._replace(starts=starts)
        if self.how == "exact":
            nothing = torch.zeros_like(bias)
            return Chosen(*self.triton.choose(torch.cat(self.values, 1), found, nothing, self.k, len(rows)))
        precise = (x.bfloat16(), rows.bfloat16()) if self.mixed else (x, rows)
        scores = self.triton.rank_again(*precise, found)
        chosen = Chosen(*self.triton.choose(scores, found, bias, self.k, len(rows)))
        if self.how == "checked":
            return proven(chosen, found.cuts, x, rows, bias, self.kept)
        return chosen


def largest_of(pre_acts: Tensor, k: int, kept: Tensor | None) -> Chosen:
    """Return the `k` largest entries of each row, among the kept columns or all.

    A CPU takes the kept columns out, and gives fewer than `k` entries if these are fewer. Elsewhere their
    number is not asked for, and entries of other columns come as -inf.
    """
    if kept is None:
        indices = top_k(pre_acts, k)
        return Chosen(indices, pre_acts.gather(1, indices))
    if pre_acts.device.type == "cpu":
        columns = kept.nonzero().squeeze(1)
        part = pre_acts[:, columns]
        indices = top_k(part, min(k, len(columns)))
        return Chosen(columns[indices], part.gather(1, indices))
    masked = pre_acts.masked_fill(~kept, -torch.inf)
    indices = top_k(masked, k)
    return Chosen(indices, masked.gather(1, indices))


def proven(
    chosen: Chosen, cut: Tensor, x: Tensor, rows: Tensor, bias: Tensor, kept: Tensor | None = None
) -> Chosen:
    """Return a screened selection, made anew by an exact one where the bound on the rounding leaves a doubt.

    Args:
        chosen: by screening.
        cut: `[n]`, no rounded pre-activation that is not a candidate is above it.
        x: `[n, d_in]`.
        rows: `[d_sae, d_in]`.
        bias: `[d_sae]`.
        kept: `[d_sae]` bool, the latents that were selected from; `None` for all.
    """
    k, highest = chosen.indices.shape[1], _highest_outside(x, rows, bias, cut)
    unproven = (chosen.values.amin(1) < highest).nonzero().squeeze(1)
    for some in torch.split(unproven, CHUNK):
        exact = largest_of(torch.addmm(bias, x[some], rows.T), k, kept)
        chosen.indices[some], chosen.values[some] = exact.indices, exact.values.to(chosen.values)
    return chosen


def chunks_of_pre_activations(
    x: Tensor, rows: Tensor, bias: Tensor, workspace: Workspace
) -> Iterator[Tensor]:
    """Yield the dense product `x @ rows.T + bias`, a chunk of tokens at a time, in the same memory."""
    size = max(1, GPU_BYTES // (len(rows) * x.itemsize)) if x.is_cuda else CHUNK
    pre_acts = workspace.take([min(size, len(x)), len(rows)], x.dtype, x.device)
    for chunk in torch.split(x, size):
        yield torch.addmm(bias, chunk, rows.T, out=pre_acts[: len(chunk)])
    workspace.give(pre_acts)


@contextmanager
def full_precision_of(x: Tensor) -> Iterator[bool]:
    """Compute products in their factors' precision inside the `with`; yield whether autocast was on."""
    matmul = torch.backends.cuda.matmul
    mixed = torch.is_autocast_enabled(x.device.type)
    before, matmul.allow_tf32 = matmul.allow_tf32, False
    try:
        with torch.autocast(x.device.type, enabled=False):
            yield mixed
    finally:
        matmul.allow_tf32 = before


def _highest_outside(x: Tensor, rows: Tensor, bias: Tensor, cut: Tensor) -> Tensor:
    """Return a bound that no latent outside the candidates can exceed, `[n]`.

    Rounding `x` and `rows` moves a product by at most `2^-8 ||x|| ||row||`, the bias and the result by `2^-9`
    of themselves; what is doubled or a little more here covers the products of these errors and the sums.
    """
    cut = cut.to(x)
    highest: Tensor = cut + rounding(x, rows, bias) + ROUNDING * cut.abs()
    return highest


def rounding(x: Tensor, rows: Tensor, bias: Tensor) -> Tensor:
    """Return a bound on the error of pre-activations made in bf16, without their own rounding, `[n]`."""
    product = x.norm(dim=1) * rows.norm(dim=1).max()
    bound: Tensor = ROUNDING * (1.05 * product + bias.abs().max())
    return bound


def top_k(pre_acts: Tensor, k: int, groups: int = 16) -> Tensor:
    """Return the indices of the `k` largest entries of each row, exact, in two stages.

    The `k` strided groups with the largest maxima contain a top-k set, so the second, small selection looks
    at them only. The order within a row is unspecified, and so is the choice between equal entries.

    Args:
        pre_acts: `[n, d_sae]`.
        k: in `0..d_sae`.
        groups: entries per group; one plain selection where `d_sae` isn't a multiple, or is small.

    Returns:
        `[n, k]` int64.

    Example:
        >>> top_k(torch.tensor([[0.1, 3.0, -1.0, 2.0]]), k=2, groups=2).sort().values.tolist()
        [[1, 3]]
    """
    n, d_sae = pre_acts.shape
    width = d_sae // groups
    if d_sae % groups or width < k or k == 0:
        return pre_acts.topk(k, sorted=False).indices
    grouped = pre_acts.view(n, groups, width)
    best = _partition(grouped.amax(1), k)
    candidates = grouped.gather(2, best[:, None, :].expand(n, groups, k)).view(n, groups * k)
    chosen = _partition(candidates, k)
    return torch.div(chosen, k, rounding_mode="floor") * width + best.gather(1, chosen % k)


def _partition(values: Tensor, k: int) -> Tensor:
    """Return the indices of the `k` largest of each row; NumPy's way is the faster one on a CPU."""
    if values.device.type != "cpu":
        return values.topk(k, sorted=False).indices
    return torch.from_numpy(np.argpartition(values.float().numpy(), -k, axis=1)[:, -k:])


def _bf16_is_fast(device: str) -> bool:
    """Return whether mixed precision is asked for, or there are units that multiply bf16 matrices."""
    if torch.is_autocast_enabled(device):
        return True
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device == "cpu" and bool(torch.cpu._is_amx_tile_supported())
