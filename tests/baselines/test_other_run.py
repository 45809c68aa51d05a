"""Runs of which the numbers are a baseline: the same recipe, but for what makes it one."""

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from lightning_sae.baselines.other_run import other_run
from lightning_sae.runs.folder import RunFolder


def test_a_frozen_decoder_is_a_baseline_and_no_other_recipe(small_run):
    run = RunFolder(small_run)
    recipe = dict(instantiate(run.config.module).hparams)
    frozen = recipe | {"frozen_decoder": not recipe["frozen_decoder"]}
    found = other_run("frozen", str(small_run), frozen, run.config)
    assert found.numbers["val/fvu"] == run.metrics["val/fvu"]
    with pytest.raises(ValueError, match=r"by another recipe: module\.lr"):
        other_run("faster", str(small_run), recipe | {"lr": 1.0}, run.config)


def test_what_is_measured_is_part_of_the_recipe_and_the_clip_is_not(small_run):
    run = RunFolder(small_run)
    recipe = dict(instantiate(run.config.module).hparams)
    for key, value in {
        "clip.random_seed": 3,
        "data.judge.device": "cpu",
        "data.store_dir": "elsewhere",
    }.items():
        config = run.config.copy()
        OmegaConf.update(config, key, value, force_add=True)
        assert other_run("same", str(small_run), recipe, config).numbers
    for key, value in {
        "data.n_val": 7,
        "data.hook_point": "visual",
        "data.tokens": "patch",
        "trainer.max_steps": 1,
    }.items():
        config = run.config.copy()
        OmegaConf.update(config, key, value, force_add=True)
        with pytest.raises(ValueError, match=f"by another recipe: {key}"):
            other_run("other", str(small_run), recipe, config)
