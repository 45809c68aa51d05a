"""Run by `test_triton_kernels.py` in a process in which Triton interprets its programs on the CPU."""

import copy
from functools import partial

import pytest
import torch
from torch import Tensor

from lightning_sae.sae import BatchTopK, Gated, JumpReLU, MatryoshkaBatchTopK, ReLU, SparseAutoencoder, TopK
from lightning_sae.sae.kernels import dense as dense_products
from lightning_sae.sae.kernels import topk_selection, triton_products, triton_selection
from lightning_sae.sae.kernels.pattern import Pattern
from lightning_sae.sae.kernels.products import bag, dot
from lightning_sae.sae.kernels.topk_selection import Spare, select, select_with_spare
from lightning_sae.sae.kernels.value_selection import select_above, select_largest

LENGTHS = [3, 0, 40, 1, 0]  # entries of each token: none, more than a tile
D_SAE = 37
SHAPES = [(1, 1), (7, 1), (7, 7), (100, 33), (600, 150), (4097, 5)]

pytestmark = pytest.mark.filterwarnings("error:divide by zero")  # of NumPy, which computes for the kernels


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def sparse_however_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_products, "DENSE", float("inf"))


@pytest.fixture
def pattern() -> Pattern:
    offsets = torch.tensor([0, *LENGTHS]).cumsum(0)
    indices = torch.randint(0, D_SAE - 1, (sum(LENGTHS),), generator=torch.Generator().manual_seed(0))
    return Pattern(indices, offsets, D_SAE, "triton")  # the last latent is active nowhere


def dense(values: Tensor, pattern: Pattern) -> Tensor:
    latents = values.new_zeros(len(LENGTHS), D_SAE)
    return latents.index_put((pattern.rows, pattern.indices), values, accumulate=True)


def rows_of(found: triton_selection.Candidates) -> list[list[int]]:
    starts, counts = found.starts.tolist(), found.counts.tolist()
    return [found.found[s : s + n].tolist() for s, n in zip(starts, counts, strict=True)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("d_sae", "k"), SHAPES)
def test_candidates_hold_the_largest(d_sae: int, k: int, dtype: torch.dtype) -> None:
    x = random(3, d_sae).to(dtype)
    found = triton_selection.candidates(x, k)
    for row, cut, columns in zip(x, found.cuts, rows_of(found), strict=True):
        assert len(set(columns)) == len(columns) >= k
        assert set((row > row.topk(k).values[-1]).nonzero().squeeze(1).tolist()) <= set(columns)
        assert set((row.float() > cut).nonzero().squeeze(1).tolist()) <= set(columns)


@pytest.mark.parametrize(("d_sae", "k"), SHAPES)
def test_candidates_among_ties_and_infinities(d_sae: int, k: int) -> None:
    x = random(5, d_sae).round() + 0.0
    x[1] = -torch.inf
    x[2, d_sae // 2 :] = -torch.inf
    x[3] = 0.0
    x[4, ::3] = torch.inf
    for row, columns in zip(x, rows_of(triton_selection.candidates(x, k)), strict=True):
        assert len(set(columns)) == len(columns) >= k
        best = row[torch.tensor(columns)].sort(descending=True).values[:k]
        assert torch.equal(best, row.topk(k).values)


def test_more_large_entries_in_few_groups_than_there_is_room_for() -> None:
    x = random(2, 4096)
    x[0, :400] += 100.0  # neighbours
    x[1, :400] = 7.0
    for row, columns in zip(x, rows_of(triton_selection.candidates(x, 40)), strict=True):
        assert 40 <= len(set(columns)) <= triton_selection.capacity(40)
        best = row[torch.tensor(columns)].sort(descending=True).values[:40]
        assert torch.equal(best, row.topk(40).values)


def test_candidates_among_some_columns() -> None:
    x, kept = random(4, 100), torch.zeros(100, dtype=torch.bool)
    kept[[3, 50, 51, 52, 99]] = True
    for k in (1, 3, 5, 8):
        for columns in rows_of(triton_selection.candidates(x, k, kept, kept.sum())):
            assert set(columns) <= {3, 50, 51, 52, 99}
            assert len(columns) >= min(k, 5)
    nothing = torch.zeros_like(kept)
    assert rows_of(triton_selection.candidates(x, 3, nothing, nothing.sum())) == [[], [], [], []]


def test_no_candidate_is_written_behind_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    x, threshold, room = random(3, 100), torch.tensor(0.5), 40
    memory = torch.full((400,), -1, dtype=torch.int32)
    maxima, group = triton_selection.group_maxima(x, 1)
    counts = triton_selection.count_above(x, maxima, group, threshold)
    monkeypatch.setattr(torch, "zeros", lambda *size, **options: memory[:room])
    found = triton_selection.candidates_above(x, maxima, group, threshold, counts, room)
    above = [(row >= threshold).nonzero().squeeze(1) for row in x]
    assert counts.tolist() == [len(columns) for columns in above]
    assert torch.equal(memory[:room], torch.cat(above)[:room].int())
    assert (memory[room:] == -1).all()
    assert found.counts.sum() == room < counts.sum()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("count", [1, 50, 4999])
def test_kth_largest_number(dtype: torch.dtype, count: int) -> None:
    x = random(5000).to(dtype)
    x[::7] = x[::7].round()
    assert triton_selection.kth_largest(x, count) == x.float().sort(descending=True).values[count - 1]
    length = torch.tensor(4000)
    if count < 4000:
        want = x[:4000].float().sort(descending=True).values[count - 1]
        assert triton_selection.kth_largest(x, count, length) == want


@pytest.mark.parametrize("way", ["exact", "screened", "checked"])
@pytest.mark.parametrize(("d_sae", "k"), [(300, 9), (37, 37), (64, 1)])
def test_a_selection_is_that_of_float64(way: str, d_sae: int, k: int) -> None:
    x, rows, bias = random(6, 40), random(d_sae, 40, seed=1), random(d_sae, seed=2) / 10
    kept = torch.arange(d_sae) % 3 == 0
    spare = Spare(kept, 2)
    first, second = select_with_spare(x, rows, bias, k, spare, way, kernels="triton")  # type: ignore[arg-type]
    pre_acts = x.double() @ rows.double().T + bias.double()
    assert second is not None
    for chosen, among, n in ((first, pre_acts, k), (second, pre_acts.where(kept, -torch.inf), 2)):
        assert torch.equal(chosen.indices.sort().values, among.topk(n).indices.sort().values)
        torch.testing.assert_close(chosen.values, pre_acts.gather(1, chosen.indices).float())


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    x, rows, bias = random(7, 20), random(90, 20, seed=1), random(90, seed=2)
    want = select(x, rows, bias, 5, "screened", kernels="triton")
    monkeypatch.setattr(topk_selection, "CHUNK", 3)
    got = select(x, rows, bias, 5, "screened", kernels="triton")
    assert torch.equal(got.indices, want.indices)
    assert torch.equal(got.values, want.values)


def test_a_check_sees_what_rounding_hides() -> None:
    rows = 1 + 2.0**-12 * torch.randperm(96, generator=torch.Generator().manual_seed(0))[:, None] / 96
    rows, x = rows.expand(96, 16).contiguous(), torch.ones(5, 16)
    want = (x.double() @ rows.double().T).topk(4).indices.sort().values
    for way, right in (("screened", False), ("checked", True)):
        chosen = select(x, rows, torch.zeros(96), 4, way, kernels="triton")  # type: ignore[arg-type]
        assert torch.equal(chosen.indices.sort().values, want) == right


@pytest.mark.parametrize("way", ["exact", "screened"])
@pytest.mark.parametrize("count", [1, 60, 500])
def test_the_largest_of_a_batch(way: str, count: int) -> None:
    x, rows, bias = random(7, 20), random(90, 20, seed=1), random(90, seed=2)
    x[0] *= 5  # has most of them
    got = select_largest(x, rows, bias, count, way, kernels="triton")  # type: ignore[arg-type]
    pre_acts = x.double() @ rows.double().T + bias.double()
    places = (got.pattern.rows * 90 + got.pattern.indices).sort().values
    assert torch.equal(places, pre_acts.flatten().topk(count).indices.sort().values)
    torch.testing.assert_close(got.values, pre_acts[got.pattern.rows, got.pattern.indices].float())


@pytest.mark.parametrize("dense", [0.0, float("inf")])
@pytest.mark.parametrize("chunk", [3, 1000])
def test_entries_above_their_floors(dense: float, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_products, "DENSE", dense)
    monkeypatch.setattr(topk_selection, "CHUNK", chunk)
    x, rows, bias = random(7, 20), random(90, 20, seed=1), random(90, seed=2)
    floors, kept = 3 + random(90, seed=3), torch.arange(90) % 4 == 0
    x[2] = 0.0
    bias[5] = floors[5] + 1e-6  # above its floor by less than what bf16 can tell
    sparse, look = [], triton_selection.candidates_above
    monkeypatch.setattr(triton_selection, "candidates_above", lambda *a: sparse.append(a) or look(*a))
    got = select_above(x, rows, bias, floors, "screened", kernels="triton", spare=Spare(kept, 2))
    assert bool(sparse) == (dense > 0)
    pre_acts = x.double() @ rows.double().T + bias.double()
    tokens, latents = (pre_acts > floors).nonzero(as_tuple=True)
    places = (got.pattern.rows * 90 + got.pattern.indices).sort()
    assert torch.equal(places.values, tokens * 90 + latents)
    torch.testing.assert_close(got.values[places.indices], pre_acts[tokens, latents].float())
    assert got.spare is not None
    want = pre_acts.where(kept, -torch.inf).topk(2).indices.sort().values
    assert torch.equal(got.spare.indices.sort().values, want)


def test_of_equal_entries_of_a_batch_as_many_as_wanted() -> None:
    x, rows = torch.ones(5, 4), torch.ones(30, 4)
    got = select_largest(x, rows, torch.zeros(30), 17, "screened", kernels="triton")
    assert len(set((got.pattern.rows * 30 + got.pattern.indices).tolist())) == 17


def test_unit_rows() -> None:
    rows = random(5, 70)
    rows[3] = 0.0
    want = torch.nn.functional.normalize(rows.double(), dim=1).float()
    triton_products.unit_rows(rows)
    torch.testing.assert_close(rows, want)


@pytest.mark.parametrize("width", [1, 5, 128, 200])
def test_products_and_their_gradients_equal_the_dense_ones_in_float64(pattern: Pattern, width: int) -> None:
    values = random(len(pattern.indices)).requires_grad_()
    x, rows = (random(n, width, seed=n).requires_grad_() for n in (len(LENGTHS), D_SAE))
    got_bag, got_dot = bag(values, rows, pattern), dot(x, rows, pattern)
    loss = (got_bag * x.detach()).sum() + (got_dot * values.detach()).sum()
    got = torch.autograd.grad(loss, (values, rows, x))
    values, rows, x = (tensor.detach().double().requires_grad_() for tensor in (values, rows, x))
    want_bag = dense(values, pattern) @ rows
    want_dot = (x @ rows.T)[pattern.rows, pattern.indices]
    loss = (want_bag * x.detach()).sum() + (want_dot * values.detach()).sum()
    want = torch.autograd.grad(loss, (values, rows, x))
    for ours, reference in zip((got_bag, got_dot, *got), (want_bag, want_dot, *want), strict=True):
        error = (ours.double() - reference).norm() / reference.norm()
        assert error < 1e-6
    assert not got_bag[1].any()
    assert not got[1][-1].any()


def test_bfloat16_is_summed_in_float32(pattern: Pattern) -> None:
    values, rows = random(len(pattern.indices)).bfloat16(), random(D_SAE, 9).bfloat16()
    x = random(len(LENGTHS), 9, seed=1).bfloat16()
    sums, products = bag(values, rows, pattern), dot(x, rows, pattern)
    # within one step of bfloat16: the interpreter cuts bits off where a GPU rounds
    want = (dense(values.double(), pattern) @ rows.double()).bfloat16()
    torch.testing.assert_close(sums, want, rtol=2**-7, atol=1e-5)
    want = (x.double() @ rows.double().T)[pattern.rows, pattern.indices].bfloat16()
    torch.testing.assert_close(products, want, rtol=2**-7, atol=1e-5)


def test_no_tokens_and_no_entries() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    rows = random(D_SAE, 3)
    assert triton_products.bag(random(0), rows, nothing, torch.zeros(1, dtype=torch.int64)).shape == (0, 3)
    assert not triton_products.bag(random(0), rows, nothing, torch.zeros(4, dtype=torch.int64)).any()
    assert triton_products.dot(random(2, 3), rows, nothing, nothing).shape == (0,)


@pytest.mark.parametrize("each", [None, 40])
@pytest.mark.parametrize("ends", [(D_SAE,), (5, 20, D_SAE)])
def test_residuals_of_prefixes(pattern: Pattern, ends: tuple[int, ...], each: int | None) -> None:
    target, rows = random(len(LENGTHS), 70), random(D_SAE, 70, seed=1)
    values, out = random(len(pattern.indices), seed=2), torch.empty(len(LENGTHS) * len(ends), 70)
    stops = torch.tensor(ends)
    got = triton_products.residuals(target, values, rows, pattern.indices, pattern.offsets, stops, out, each)
    latents = dense(values.double(), pattern)
    left = torch.stack([target - latents[:, :end] @ rows[:end].double() for end in ends], 1)
    suffixes = left.flip(1).cumsum(1).flip(1)
    torch.testing.assert_close(out, suffixes.flatten(0, 1).float())
    torch.testing.assert_close(got.squares, left.square().sum().float())
    part = torch.searchsorted(stops, pattern.indices, right=True)
    want = (suffixes[pattern.rows, part] * rows[pattern.indices]).sum(1)
    torch.testing.assert_close(got.products, want.float(), rtol=1e-5, atol=1e-4)


def test_a_latent_that_is_active_on_many_tokens() -> None:
    n, d_sae, width = 3 * triton_products.PIECE + 50, 6, 20
    indices = torch.randint(0, d_sae, (n, 2), generator=torch.Generator().manual_seed(0))
    indices[:, 0], indices[:, 1] = 2, indices[:, 1].where(indices[:, 1] != 2, 4)
    pattern = Pattern.from_topk(indices, d_sae, "triton")
    order = pattern.indices.argsort(stable=True)
    sorted_latents = pattern.indices[order]
    offsets = torch.searchsorted(sorted_latents, torch.arange(d_sae + 1))
    weights, x = random(2 * n), random(n, width, seed=1)
    weights[::3] = 0.0
    x[0] = torch.nan  # of entries with weight 0 nothing is read
    weights[:2] = 0.0
    got = triton_products.sum_by_latent(weights, x, pattern.rows, order, sorted_latents, offsets)
    want = torch.zeros(d_sae, width, dtype=torch.float64).index_add_(
        0, pattern.indices[2:], weights[2:, None].double() * x[pattern.rows[2:]].double()
    )
    torch.testing.assert_close(got, want.float(), rtol=1e-5, atol=1e-4)
    sums = triton_products.sum_values(weights, pattern.rows, order, offsets, 100)
    want = torch.zeros(2, d_sae)
    want[0].index_add_(0, pattern.indices[:200], weights[:200])
    want[1].index_add_(0, pattern.indices[200:], weights[200:])
    torch.testing.assert_close(sums, want, rtol=1e-5, atol=1e-4)


VARIANTS = {
    "topk": partial(TopK, k=4),
    "batch_topk": partial(BatchTopK, k=4),
    "matryoshka": partial(MatryoshkaBatchTopK, k=4, prefixes=[0.25, 0.5, 1.0]),
    "relu": partial(ReLU, l1_weight=0.1),
    "gated": partial(Gated, l1_weight=0.1),
    "jump_relu": partial(JumpReLU, l0_weight=0.1),
}


STEPS = [(name, n_dead, "screened") for name in VARIANTS for n_dead in (0, 8)]


@pytest.mark.parametrize(("name", "n_dead", "selection"), [*STEPS, ("topk", 2, "exact")])
def test_a_training_step_equals_pytorch(name: str, n_dead: int, selection: str) -> None:
    torch.manual_seed(0)
    options = {"k_aux": 3, "dead_after": 10, "selection": selection}
    by_triton: SparseAutoencoder = VARIANTS[name](d_in=12, d_sae=24, kernels="triton", **options)
    with torch.no_grad():
        by_triton.b_dec.normal_(0, 0.1)
        by_triton.b_enc.normal_(0, 0.1)
    by_triton.tokens_since_fired[:n_dead] = 11
    by_pytorch, x = copy.deepcopy(by_triton), random(5, 12)
    by_pytorch.kernels, by_pytorch.selection = "torch", "exact"

    def step(sae: SparseAutoencoder) -> tuple[Tensor, Tensor, list[Tensor]]:
        sae.zero_grad()
        out = sae.training_loss(x)
        out.loss.backward()
        grads = [p.grad.clone() for p in sae.parameters() if p.grad is not None]
        return out.loss.detach(), out.latents.to_dense(), grads

    loss, latents, grads = step(by_triton)
    want_loss, want_latents, want = step(by_pytorch)
    torch.testing.assert_close(loss, want_loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(latents, want_latents, rtol=1e-5, atol=1e-5)
    assert len(grads) == len(want) >= 4
    for ours, reference in zip(grads, want, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-6)
    if name in ("topk", "relu", "gated", "jump_relu"):
        assert all(map(torch.equal, grads, step(by_triton)[2]))


def test_autocast_trains_with_rows_in_bfloat16() -> None:
    torch.manual_seed(0)
    sae, x = TopK(d_in=32, d_sae=64, k=4, kernels="triton"), random(9, 32)
    sae.training_loss(x).loss.backward()
    assert sae.W_dec.grad is not None
    want = sae.W_dec.grad.clone()
    sae.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss = sae.training_loss(x).loss
    loss.backward()
    assert loss.dtype == sae.W_dec.grad.dtype == torch.float32
    error = (sae.W_dec.grad - want).norm() / want.norm()
    assert 1e-5 < error < 0.05
