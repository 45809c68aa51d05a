"""Misspelt names of logged values, refused before anything is captured where nothing can log them."""

from types import SimpleNamespace

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint

from callbacks.alignment import Alignment
from callbacks.summary import Summary
from lightning_sae.concepts.vocabulary import Vocabulary
from lightning_sae.tracking.monitored import check_monitored
from lightning_sae.training.module import SAEModule


class Mine(Callback):
    """It may log anything."""


class More(Summary):
    """So may a class that goes on from one of ours."""


def check(*callbacks, optimized=(), fits=True):
    module = SAEModule.__new__(SAEModule)
    check_monitored(SimpleNamespace(callbacks=[Summary(), *callbacks]), module, optimized, fits)


@pytest.mark.parametrize(
    ("monitor", "said"),
    [
        (EarlyStopping("val/fvv"), r"the monitor of EarlyStopping names 'val/fvv', .* did you mean val/fvu"),
        (ModelCheckpoint(monitor="alignment/meen"), r"of ModelCheckpoint names .* mean alignment/mean or"),
        (ModelCheckpoint(monitor="zero_shot/spliced"), "in this run logs: there are val/fvu, "),
    ],
)
def test_a_misspelt_monitor(monitor, said):
    with pytest.raises(ValueError, match=said):
        check(Alignment(Vocabulary()), monitor)
    for stranger in (Mine(), More()):
        check(Alignment(Vocabulary()), monitor, stranger)
    check(Alignment(Vocabulary()), monitor, fits=False)  # nothing is monitored


def test_a_misspelt_metric_of_a_sweep():
    check(optimized=["val/fvu", "val/density_p50", "train/loss"])
    with pytest.raises(ValueError, match=r"optimized_metric names 'val/lo', .* did you mean val/l0 or"):
        check(optimized=["val/fvu", "val/lo"], fits=False)


@pytest.mark.parametrize("monitor", ["val/l0", "epoch", "train/mine", "lr-Adam", None])
def test_what_may_be_logged_is_left_alone(monitor):
    check(ModelCheckpoint(monitor=monitor), LearningRateMonitor())
