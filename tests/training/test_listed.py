"""The callbacks that a config lists."""

import runpy
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from lightning_sae.data import WorldImages
from lightning_sae.pairs.edits import Patch, PrintedWord, Tint
from lightning_sae.training.listed import listed

ROOT = Path(__file__).parents[2]
built = runpy.run_path(str(ROOT / "train.py"))["_built"]
CONF = ROOT / "conf"
WORD = (
    "+callbacks.pairs.sources.edits.edits.sale={_target_: lightning_sae.pairs.edits.PrintedWord, word: sale}"
)


def composed(*words):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=["run_dir=RUN", *words])


def test_edits_of_a_list_are_what_they_are_and_make_pairs():
    cfg = composed("callbacks=[pair_edits]", WORD, "callbacks.pairs.sources.edits.n_images=8")
    (pairs,) = built(cfg, "callbacks")
    edits = pairs.sources["edits"]
    assert [type(edit) for edit in edits.edits.values()] == [Tint, Tint, Patch, Patch, PrintedWord]
    found = edits.pairs(WorldImages("biased", n_train=1, n_val=30, n_test=1).split("val"))
    assert len(found.contrasts) == 5 * 8
    assert found.images[int(found.after[-1])].size == found.images[0].size


def test_what_is_null_is_left_out_and_settings_alone_are_refused():
    assert listed(composed("callbacks=[progress]", "callbacks.progress=null").callbacks, "callbacks") == []
    cfg = composed("callbacks=[progress]", "+callbacks.audit.level=0.1")
    with pytest.raises(ValueError, match=r"callbacks.audit has settings \(level\), and audit is not in the"):
        listed(cfg.callbacks, "callbacks")
