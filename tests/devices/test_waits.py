"""Between two logged steps the host never waits for the device: it stays ahead of it."""

from itertools import pairwise

import pytest
import torch
from pretend import waits

from lightning_sae.sae import SparseAutoencoder
from lightning_sae.training.module import SAEModule

STEPS, LOGGED = 8, 4
TRAINING = [
    *("data.n_train=640", "data.n_val=64", "data.n_test=1", "data.n_probe=8", "data.batch_size=64"),
    *("data.num_workers=0", "sae.d_sae=64", "module.decay_fraction=0", f"trainer.max_steps={STEPS}"),
    *(f"trainer.val_check_interval={STEPS}", f"trainer.log_every_n_steps={LOGGED}", "logger=csv"),
    *("trainer.num_sanity_val_steps=0", "callbacks=[progress,best_checkpoint,checkpoint,ema]"),
]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def waits_of_steps(on_pretend, store, tmp_path, monkeypatch):
    """Variant, number of dead latents -> what is waited for from each step's start to the next one's."""
    step_of = SAEModule.training_step

    def waits_of_steps(sae: str, n_dead: int) -> list[list[str]]:
        dead = property(lambda sae: torch.arange(sae.d_sae, device=sae.steps.device) < n_dead)
        monkeypatch.setattr(SparseAutoencoder, "dead", dead)
        steps: list[int] = []
        with waits() as places:

            def training_step(self, *batch):
                steps.append(len(places))
                return step_of(self, *batch)

            monkeypatch.setattr(SAEModule, "training_step", training_step)
            on_pretend(*TRAINING, f"sae={sae}", f"data.store_dir={store}", f"hydra.run.dir={tmp_path}")
        assert len(steps) == STEPS
        return [places[start:stop] for start, stop in pairwise(steps)]

    return waits_of_steps


@pytest.mark.parametrize("n_dead", [0, 8])
@pytest.mark.parametrize(
    ("sae", "most"),
    [
        ("topk", 0),
        ("batch_topk", 0),
        ("matryoshka", 0),
        ("relu", 1),  # of these three the number of active latents decides the shapes
        ("gated", 1),
        ("jump_relu", 1),
    ],
)
def test_waits_between_two_logged_steps(waits_of_steps, sae, n_dead, most):
    for step, places in enumerate(waits_of_steps(sae, n_dead)):
        if step > 0 and (step + 1) % LOGGED:  # the first step also makes what is kept for the others
            assert len(places) <= most, places
