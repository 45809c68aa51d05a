"""Streaming metrics equal the formula on the whole split, for any batch size and number of ranks."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_sae.attribution.means import MeanAttribution
from lightning_sae.metrics import (
    FVU,
    L0,
    Cosine,
    Density,
    MonoSemanticity,
    TopImages,
    density_quantiles,
)
from lightning_sae.types import SparseLatents

N, D_IN, D_SAE, TOP = 230, 5, 17, 4


@pytest.fixture
def x() -> Tensor:
    return torch.randn(N, D_IN, generator=torch.Generator().manual_seed(0)) + torch.linspace(-3, 9, D_IN)


@pytest.fixture
def x_hat(x: Tensor) -> Tensor:
    return x + 0.3 * torch.randn(N, D_IN, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def dense() -> Tensor:
    generator = torch.Generator().manual_seed(2)
    latents = torch.randint(1, 6, (N, D_SAE), generator=generator).float()  # many ties
    latents *= torch.rand(N, D_SAE, generator=generator) < 0.2
    latents[:, 3] = 0  # never fires
    latents[:, 4] *= torch.arange(N) < 2  # fires on fewer than TOP images
    return latents


def gathered(ranks: list[Metric]) -> Metric:
    """The metric of rank 0, whose `compute` sees the states of all."""
    names = {id(getattr(ranks[0], name)): name for name in ranks[0].metric_state}
    ranks[0].distributed_available_fn = lambda: True
    ranks[0].dist_sync_fn = lambda state, group: [getattr(rank, names[id(state)]) for rank in ranks]
    return ranks[0]


def stream(
    make: Callable[[], Metric], rows: Callable[[int, int], tuple[object, ...]], size: int, n_ranks: int
) -> Metric:
    ranks = [make() for _ in range(n_ranks)]
    for number, start in enumerate(range(0, N, size)):
        ranks[number % n_ranks].update(*rows(start, min(N, start + size)))
    return gathered(ranks) if n_ranks > 1 else ranks[0]


any_split = pytest.mark.parametrize(("size", "n_ranks"), [(1, 1), (7, 1), (N, 1), (7, 2), (64, 3)])


@any_split
@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_fvu(x: Tensor, x_hat: Tensor, offset: float, size: int, n_ranks: int) -> None:
    x, x_hat = x + offset, x_hat + offset  # float32: sums of squares would cancel at 1e5
    metric = stream(lambda: FVU(D_IN), lambda i, j: (x[i:j], x_hat[i:j]), size, n_ranks)
    mean = x.double().mean(0)
    want = (x.double() - x_hat.double()).square().sum() / (x.double() - mean).square().sum()
    torch.testing.assert_close(metric.compute(), want, rtol=1e-9, atol=0)


def test_fvu_of_the_mean_is_one(x: Tensor) -> None:
    metric = FVU(D_IN)
    metric.update(x, x.double().mean(0).expand_as(x))
    assert metric.compute().item() == pytest.approx(1)


@pytest.mark.parametrize("value", [1.0, float("nan")])
def test_fvu_of_constant_or_nan_activations(value: float) -> None:
    metric = FVU(D_IN)
    metric.update(torch.full((9, D_IN), value), torch.zeros(9, D_IN))
    with pytest.raises(ValueError, match="constant or hold NaN"):
        metric.compute()


@any_split
def test_cosine(x: Tensor, x_hat: Tensor, size: int, n_ranks: int) -> None:
    metric = stream(Cosine, lambda i, j: (x[i:j], x_hat[i:j]), size, n_ranks)
    want = ((x * x_hat).sum(1) / x.norm(dim=1) / x_hat.norm(dim=1)).double().mean()
    torch.testing.assert_close(metric.compute(), want, rtol=1e-6, atol=0)


@any_split
def test_l0_and_density(dense: Tensor, size: int, n_ranks: int) -> None:
    def rows(i: int, j: int) -> tuple[object, ...]:
        return (SparseLatents.from_dense(dense[i:j]),)

    active = (dense > 0).double()
    torch.testing.assert_close(stream(L0, rows, size, n_ranks).compute(), active.sum(1).mean())
    torch.testing.assert_close(stream(lambda: Density(D_SAE), rows, size, n_ranks).compute(), active.mean(0))


def brute_force_top(dense: Tensor, image_ids: Tensor) -> tuple[list[list[float]], list[list[int]]]:
    values, ids = [], []
    for latent in range(D_SAE):
        best = {int(i): float(dense[image_ids == i, latent].max()) for i in image_ids.unique()}
        order = sorted((-value, image) for image, value in best.items() if value > 0)[:TOP]
        padding = TOP - len(order)
        values.append([-value for value, _ in order] + [0.0] * padding)
        ids.append([image for _, image in order] + [-1] * padding)
    return values, ids


@any_split
@pytest.mark.parametrize("n_images", [N, 40])
def test_top_images(dense: Tensor, n_images: int, size: int, n_ranks: int) -> None:
    # with 40 images each has several tokens, spread over the batches
    image_ids = torch.randperm(N, generator=torch.Generator().manual_seed(3)) % n_images
    metric = stream(
        lambda: TopImages(TOP, D_SAE),
        lambda i, j: (SparseLatents.from_dense(dense[i:j]), image_ids[i:j]),
        size,
        n_ranks,
    )
    values, ids = metric.compute()
    want_values, want_ids = brute_force_top(dense, image_ids)
    assert values.tolist() == want_values
    assert ids.tolist() == want_ids
    assert ids[3].tolist() == [-1] * TOP


def test_top_images_ignores_zeros_kept_in_the_pattern() -> None:
    metric = TopImages(2, d_sae=3)
    metric.update(
        SparseLatents.from_topk(torch.tensor([[0.0, 2.0]]), torch.tensor([[0, 1]]), 3), torch.tensor([5])
    )
    assert metric.compute()[1].tolist() == [[-1, -1], [5, -1], [-1, -1]]


def test_top_images_needs_an_image() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        TopImages(0, d_sae=3)


def test_density_numbers() -> None:
    density = torch.tensor([0.0, 1e-3, 1e-2, 1.0, 0.0])
    assert density_quantiles(density, [0, 1]).tolist() == pytest.approx([1e-3, 1])
    assert density_quantiles(torch.zeros(3), [0.1, 0.9]).tolist() == [0, 0]


def test_one_latent_keeps_its_shape() -> None:
    latents, ids = SparseLatents.from_dense(torch.tensor([[2.0], [0.0], [1.0]])), torch.arange(3)
    density, top, score = Density(1), TopImages(1, 1), MonoSemanticity(1, 2)
    for metric, given in ((density, ()), (top, (ids,)), (score, (ids, torch.eye(3)[:, :2]))):
        metric.update(latents, *given)
        assert metric.compute() is metric.compute()  # torchmetrics' cache
    assert density.compute().tolist() == [2 / 3]
    assert [part.tolist() for part in top.compute()] == [[[2.0]], [[0]]]
    assert score.compute().shape == (1,)


def test_results_do_not_change_with_later_updates() -> None:
    metric = MeanAttribution(n_classes=1, d_sae=1)
    latents, one = SparseLatents.from_dense(torch.tensor([[2.0]])), torch.zeros(1, dtype=torch.int64)
    metric.update(latents, torch.tensor([3.0]), one)
    before = metric.compute()
    metric.update(latents, torch.tensor([5.0]), one)
    assert (before.mean.tolist(), before.counts.tolist()) == ([[3.0]], [1])
    assert (metric.compute().mean.tolist(), metric.compute().counts.tolist()) == ([[4.0]], [2])
