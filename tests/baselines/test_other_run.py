"""Runs of which the numbers are a baseline: the same recipe, but for what makes it one."""

import pytest
from hydra.utils import instantiate

from lightning_sae.baselines.other_run import other_run
from lightning_sae.runs.folder import RunFolder


def test_a_frozen_decoder_is_a_baseline_and_no_other_recipe(small_run):
    run = RunFolder(small_run)
    recipe = dict(instantiate(run.config.module).hparams)
    found = other_run("frozen", str(small_run), recipe | {"frozen_decoder": not recipe["frozen_decoder"]})
    assert found.numbers["val/fvu"] == run.metrics["val/fvu"]
    with pytest.raises(ValueError, match=r"by another recipe: module\.lr"):
        other_run("faster", str(small_run), recipe | {"lr": 1.0})
