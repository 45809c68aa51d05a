"""Several processes against one with the same rows per step: `worker.py` trains, here it is compared."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from lightning_sae.data import Moments
from lightning_sae.data.store.shards import ShardFolder

WORKER = Path(__file__).parent / "worker.py"
pytestmark = pytest.mark.timeout(900)
VARIANTS = ["topk", "batch_topk", "matryoshka", "jump_relu", "relu", "gated", "several"]


def write_store(path: Path, width: int) -> None:
    """Rows that are sums of a few of twelve directions, every fifth one twice."""
    generator = torch.Generator().manual_seed(width)
    directions = torch.randn(12, width, generator=generator)
    chosen = torch.rand(320, 12, generator=generator) < 0.12
    x = (chosen * (0.5 + torch.rand(320, 12, generator=generator))) @ directions + 2
    x[5::5] = x[4:-1:5]
    folder = ShardFolder(path, {}, 320, 100)
    for shard in folder.missing():
        part = x[[*folder.images(shard)]][:, None]
        moments = Moments.of(part.flatten(0, 1))
        spread = torch.tensor(moments.spread, dtype=torch.float64)
        folder.write(shard, {"x": part, "mean": moments.mean, "spread": spread})
    folder.finish(folder.moments().statistics())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("training")
    write_store(root / "store", 8)
    write_store(root / "earlier", 6)
    return root


@pytest.fixture(params=[2, pytest.param(4, marks=pytest.mark.slow)])
def several(request: pytest.FixtureRequest, folder: Path, ranks) -> Path:  # type: ignore[no-untyped-def]
    """Trained by one process, and by several; their folder."""
    for n in (1, request.param):
        if not (folder / str(n)).exists():
            for done in ranks(*[[str(WORKER), str(folder), str(n)]] * n):
                assert done.returncode == 0, done.stderr[-3000:]
    return folder / str(request.param)


def final(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path / "final.pt", weights_only=True)


def assert_close(found: Path, expected: Path, tolerance: float) -> None:
    one, other = final(expected), final(found)
    assert one.keys() == other.keys()
    for key, tensor in one.items():
        torch.testing.assert_close(
            other[key], tensor, rtol=0, atol=tolerance, msg=lambda m, k=key: f"{k}: {m}"
        )
    whole, curve = (pd.read_csv(path / "metrics.csv") for path in (expected, found))
    whole = whole[whole["step"] >= curve["step"].min()].reset_index(
        drop=True
    )  # a resumed one lacks the start
    pd.testing.assert_frame_equal(curve, whole, rtol=0, atol=tolerance)


@pytest.mark.parametrize("variant", VARIANTS)
def test_several_processes_are_one(several: Path, folder: Path, variant: str) -> None:
    assert_close(
        several / f"{variant}-whole", folder / "1" / f"{variant}-whole", 1e-6
    )  # twenty steps in float64
    assert_close(several / f"{variant}-step", folder / "1" / f"{variant}-step", 1e-6)  # one step in float32
    assert_close(several / f"{variant}-taken", folder / "1" / f"{variant}-whole", 1e-6)  # one began, they end


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_resumed_training_has_the_same_bits(several: Path, variant: str) -> None:
    # DDP arranges its buckets anew after a first step, and more than two ranks then add up in another order
    tolerance = 0 if several.name == "2" else 1e-12
    assert_close(several / f"{variant}-resumed", several / f"{variant}-whole", tolerance)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_compared_has_dead_latents_and_moves(several: Path, folder: Path, variant: str) -> None:
    curve = pd.read_csv(folder / "1" / f"{variant}-whole" / "metrics.csv")
    state = final(folder / "1" / f"{variant}-whole")
    assert curve["train/loss"].iloc[-2] < curve["train/loss"].iloc[0]
    assert state.get("sae.threshold", torch.ones(())) > 0
    if variant not in ("relu", "gated"):  # whose latents all fire in so few steps
        assert (curve["train/aux"] > 0).sum() > 3
        assert (state["sae.tokens_since_fired"] > 0).any()
