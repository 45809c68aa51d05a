"""Every variant of `conf/sae/` finds the directions that activations are made of."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from benchmarks.recovery import detection_f1, match, max_cosines
from lightning_sae.sae import SparseAutoencoder
from lightning_sae.training.clipping import clip_by_scale
from lightning_sae.training.schedule import lr_factor
from lightning_sae.types import SparseLatents

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / "conf" / "sae").glob("*.yaml"))
D_IN, M, L0 = 64, 128, 4
STEPS, BATCH = 1200, 512
SPARSITY = {
    "relu": ["sae.l1_weight=0.03", "sae.l1_warmup_steps=300"],
    "gated": ["sae.l1_weight=0.05", "sae.l1_warmup_steps=300"],
    "jump_relu": [f"sae.target_l0={L0}", "sae.l0_warmup_steps=300"],
}


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("planted")


def train(sae: SparseAutoencoder, x: torch.Tensor) -> None:
    optimiser = torch.optim.Adam(sae.parameters(), fused=True)
    random = torch.Generator().manual_seed(0)
    for step in range(STEPS):
        batch = x[torch.randint(len(x), (BATCH,), generator=random)]
        optimiser.param_groups[0]["lr"] = 3e-3 * lr_factor(step, STEPS, 50, 0.2)
        out = sae.training_loss(batch)
        sae.zero_grad()
        out.loss.backward()
        clip_by_scale(optimiser, 1.0)
        optimiser.step()
        sae.after_step()
        sae.count_firings(out.latents.fired(), len(batch))


@pytest.mark.parametrize("name", NAMES)
def test_the_easy_directions_are_found(name: str, planted: Any) -> None:
    unequal = 0.7 if name == "matryoshka" else 0.0  # its prefixes need unequal frequencies
    data = planted.easy(16_000, D_IN, M, L0, zipf=unequal)
    sparsity = SPARSITY.get(name, [f"sae.k={L0}"])
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose(overrides=[f"+sae={name}", f"sae.d_sae={M}", "sae.dead_after=20000", *sparsity])
    torch.manual_seed(0)
    sae = instantiate(config.sae)(d_in=D_IN)
    mean = data.x.mean(0)
    sae.set_normalisation(mean, (data.x - mean).square().mean().rsqrt())
    train(sae, data.x)
    assert max_cosines(sae.W_dec.detach(), data.directions).mean() >= 0.9
    latents = sae.encode(data.x[:4000])
    assert 0.7 * L0 < latents.values.count_nonzero() / 4000 < 2 * L0


def test_the_realistic_edition_is_what_it_says(planted: Any) -> None:
    data = planted.realistic(20_000, 16, 50, l0=4.0)
    present = data.codes > 0
    parents, children = present[:, :10], present[:, 10:].view(-1, 10, 4)
    assert torch.equal(children.sum(2), parents.long())  # exactly one where the parent is, else none
    torch.testing.assert_close(present.sum(1).float().mean(), torch.tensor(4.0), rtol=0.05, atol=0)
    together = (parents[:, :5] & parents[:, 5:]).float().mean(0)
    alone = parents[:, :5].float().mean(0) * parents[:, 5:].float().mean(0)
    assert (together > 1.3 * alone).all()
    assert (parents.float().mean(0).diff() < 0.02).all()  # ever rarer
    torch.testing.assert_close(data.directions.norm(dim=1), torch.ones(50))


def test_codes_and_directions_make_the_activations(planted: Any) -> None:
    data = planted.easy(3000, 8, 20, l0=2.0, noise=0.0)
    rest = data.x - data.codes @ data.directions
    torch.testing.assert_close(rest, rest[:1].expand_as(rest))
    assert (data.codes > 0).float().sum(1).mean().item() == pytest.approx(2.0, abs=0.1)
    frequencies = planted.frequencies(20, 3.0, zipf=2.0)
    assert frequencies.sum().item() == pytest.approx(3.0, abs=1e-3)
    assert frequencies.max() <= 0.5


def test_matching_is_the_best_of_all() -> None:
    from itertools import permutations

    rows, directions = torch.randn(5, 3), torch.randn(4, 3)
    unit = [t / t.norm(dim=1, keepdim=True) for t in (rows, directions)]
    cosines = (unit[1] @ unit[0].T).abs()
    best = max(permutations(range(5), 4), key=lambda p: sum(cosines[i, j].item() for i, j in enumerate(p)))
    latents, found = match(rows, directions)
    assert tuple(latents.tolist()) == best
    torch.testing.assert_close(found, cosines[range(4), best])
    with pytest.raises(ValueError, match="4 directions need as many rows, got 3"):
        match(rows[:3], directions)


def test_f1_is_that_of_the_confusion_matrix() -> None:
    from sklearn.metrics import f1_score

    fired, present = torch.rand(200, 6) < 0.3, torch.rand(200, 4) < 0.4
    chosen = torch.tensor([5, 0, 2, 3])
    got = detection_f1(SparseLatents.from_dense(fired.float()), chosen, present)
    want = [f1_score(present[:, i], fired[:, j]) for i, j in enumerate(chosen.tolist())]
    torch.testing.assert_close(got, torch.tensor(want), check_dtype=False)
