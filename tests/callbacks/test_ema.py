"""The average of the weights is validated, kept in checkpoints and saved; training does not notice."""

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from callbacks.ema import EMA
from callbacks.quality import Quality
from callbacks.save_sae import SaveSAE
from lightning_sae.sae import load_sae


class Weights(Callback):
    """The decoder after every step, and as it is at each hook of the last validation pass."""

    def __init__(self):
        self.steps, self.seen = [], {}

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.steps.append(pl_module.sae.W_dec.detach().clone())

    def __getattribute__(self, name):
        if name.startswith("on_validation"):
            return lambda trainer, pl_module, *_: self.seen.update({name: pl_module.sae.W_dec.clone()})
        return super().__getattribute__(name)


@pytest.fixture(scope="module")
def run(fit, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ema")
    keep = ModelCheckpoint(folder, save_last=True, save_top_k=0)
    parts = [Weights(), Quality(), SaveSAE(), EMA(decay=0.5), keep]
    callbacks = {type(part).__name__: part for part in parts}
    return fit(folder, callbacks, enable_checkpointing=True)


def average(weights):
    mean = weights[0]
    for now in weights[1:]:
        mean = 0.5 * mean + 0.5 * now
    return mean


def test_the_average_is_there_in_every_hook_of_validation(run):
    weights = run.find(Weights)
    assert {"on_validation_epoch_start", "on_validation_batch_end", "on_validation_epoch_end"} <= set(
        weights.seen
    )
    for hook in ("on_validation_epoch_start", "on_validation_batch_end", "on_validation_epoch_end"):
        torch.testing.assert_close(weights.seen[hook], average(weights.steps), msg=hook)


def test_training_goes_on_with_the_weights_and_is_the_same_as_without(run, fit, tmp_path):
    plain = fit(tmp_path, {"weights": Weights()})
    for with_average, without in zip(run.find(Weights).steps, plain.find(Weights).steps, strict=True):
        assert torch.equal(with_average, without)


def test_the_average_is_saved_with_rows_of_unit_norm(run):
    mean = average(run.find(Weights).steps)
    saved = load_sae(run.folder / "sae")
    torch.testing.assert_close(saved.W_dec.detach(), mean / mean.norm(dim=1, keepdim=True))
    state = torch.load(run.folder / "last.ckpt", weights_only=True)["state_dict"]
    torch.testing.assert_close(state["sae.W_dec"], mean)
    assert torch.equal(state["sae.tokens_since_fired"], run.module.sae.tokens_since_fired)


def test_who_is_killed_behind_the_last_step_has_the_same_result(run, fit, tmp_path):
    """The checkpoint of the last step is there, and the run is not yet noted as finished."""
    callbacks = {"save": SaveSAE(), "ema": EMA(decay=0.5)}
    fit(tmp_path, callbacks, ckpt_path=run.folder / "last.ckpt")
    again, before = load_sae(tmp_path / "sae"), load_sae(run.folder / "sae")
    assert torch.equal(again.W_dec, before.W_dec)
    assert torch.equal(again.W_enc, before.W_enc)


def test_decay_out_of_range():
    with pytest.raises(ValueError, match=r"decay must be in 0\.\.1, got 2"):
        EMA(decay=2)
