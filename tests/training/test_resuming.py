"""What a run may go on from: its own images and settings, one training at a time, in its own folder."""

import json
import os
import re

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from lightning_sae.data.claims import claimed
from lightning_sae.world import World

SMALL = [
    *("data=image_folder", "data.n_probe=8", "data.batch_size=32", "data.num_workers=1"),
    *("sae.d_sae=64", "sae.k=4", "module.decay_fraction=0", "trainer.accelerator=cpu", "logger=csv"),
    *("trainer.max_steps=4", "trainer.val_check_interval=2", "trainer.num_sanity_val_steps=0"),
    *("callbacks=[progress,checkpoint,save_sae]", "callbacks.progress.refresh_rate=0"),
]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """BMP files, which have equal sizes."""
    root, world = tmp_path_factory.mktemp("data") / "images", World("biased", "test", 80)
    for i in range(80):
        path = root / world.class_names[i % 2] / f"{i}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        world.image(i).save(path)
    return root


@pytest.fixture(scope="module")
def run(train_py, store, images):
    """Runs train.py in a folder; the message or status it ends with."""

    def run(folder, *overrides, root=images):
        small = [
            word
            for word in SMALL
            if not any("callbacks=[" in given for given in overrides) or "callbacks" not in word
        ]
        return train_py(
            *small, f"data.root={root}", f"data.store_dir={store}", f"hydra.run.dir={folder}", *overrides
        )

    return run


@pytest.fixture(scope="module")
def trained(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    assert run(folder) == 0
    return folder


def last(folder):
    return f"ckpt_path={folder}/checkpoints/last.ckpt"


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def replaced(images, copy, split):
    """The same images but for one of a split, which has other pixels and the same size."""
    from lightning_sae.data import ImageFolders

    copy.mkdir()
    for path in images.rglob("*.bmp"):
        target = copy / "images" / path.relative_to(images)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    root = copy / "images"
    path = root / ImageFolders(root).split(split).files[0].path
    pixels = np.asarray(Image.open(path))
    Image.fromarray(255 - pixels).save(path)
    return root


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_run_does_not_go_on_when_its_images_were_replaced(run, during, images, tmp_path, split):
    folder, root = tmp_path / "run", tmp_path / "data" / "images"
    during(3, lambda: os.kill(os.getpid(), 10))
    copy = replaced(images, tmp_path / "data", "test")  # which no training looks at
    assert run(folder, root=copy) == 128 + 10
    before, path = files(folder), sorted(root.rglob("*.bmp"))
    from lightning_sae.data import ImageFolders

    path = root / ImageFolders(root).split(split).files[0].path
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    assert rf"on other data, these changed: {split}.files " in run(folder, root=copy)
    assert files(folder) == before


def test_a_finished_run_of_other_prompts_is_not_this_run(run, images, tmp_path):
    prompts, folder = tmp_path / "prompts.json", tmp_path / "run"
    classes = sorted(path.name for path in images.iterdir())
    for text, said in (("a {}", 0), ("a {}", 0), ("one {}", "on other data, these changed: prompts ")):
        prompts.write_text(json.dumps({name: [text.format(name)] for name in classes}))
        assert str(said) in str(run(folder, f"data.prompts_file={prompts}"))


def test_a_given_checkpoint_does_not_go_on_with_other_images(run, trained, images, tmp_path):
    root = replaced(images, tmp_path / "data", "train")
    said = run(tmp_path / "run", last(trained), "trainer.max_steps=6", root=root)
    assert "on other data, these changed: train.files " in said
    assert not (tmp_path / "run" / "run.json").exists()
    assert run(tmp_path / "again", last(trained), "task=validate", root=root) == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["module.lr=0.1"], r"other settings: module.lr 0.002 -> 0.1. "),
        (["sae=batch_topk"], "sae.variant 'TopK' -> 'BatchTopK'"),
        (["sae.d_sae=32"], "other settings: sae.d_sae 64 -> 32. "),
        (["sae.k=5"], "other settings: sae.k 4 -> 5. "),
        (
            ["tokens=patch", "hook_point=visual.transformer.resblocks.1"],
            "other activations, these changed: hook",
        ),
        (["seed=1", "data.seed=1"], "the order of data.seed=0, and this run has data.seed=1"),
        (["trainer.max_steps=4"], "is of step 4, and trainer.max_steps=4: nothing is left to train"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused_by_name(run, trained, tmp_path, overrides, message):
    said = run(tmp_path, last(trained), "trainer.max_steps=6", *overrides)
    assert message in str(said)
    assert not (tmp_path / "run.json").exists()


def test_what_a_checkpoint_does_not_hold_is_applied(run, trained, tmp_path):
    assert run(tmp_path, last(trained), "trainer.max_steps=6", "module.gradient_clip=0.5") == 0
    found = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert found["global_step"] == 6
    assert found["hyper_parameters"]["gradient_clip"] == 0.5


@pytest.mark.parametrize("content", [None, b"", b"half", b"PK\3\4"])
def test_a_checkpoint_that_is_none_is_named(run, tmp_path, content):
    path = tmp_path / "a.ckpt"
    if content is not None:
        path.write_bytes(content)
    said = run(tmp_path / "run", f"ckpt_path={path}")
    assert f"{path}" in said
    assert "ckpt" in said
    assert "Error: " in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ActivationDataModule": 3}, r"no ActivationDataModule\.clip, .*\.data, .*\.seed\. "),
        ({"ActivationDataModule": None}, "no checkpoint of a training on the data of Activ"),
        ({"hyper_parameters": {}}, r"no hyper_parameters\.sae, hyper_parameters\.lr, "),
        ({"global_step": None}, "older version, or not of this library: it has no global_step"),
        ({"state_dict": None, "optimizer_states": None}, "it has no state_dict, optimizer_states"),
    ],
)
def test_a_checkpoint_of_another_form_is_named(run, trained, tmp_path, changes, said):
    whole = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save({k: v for k, v in (whole | changes).items() if v is not None}, tmp_path / "a.ckpt")
    assert re.search(said, str(run(tmp_path / "run", f"ckpt_path={tmp_path}/a.ckpt")))


def test_a_typo_leaves_nothing_that_refuses_the_mended_command(run, tmp_path):
    assert "k must be in 1..d_sae" in run(tmp_path, "sae.k=65")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert run(tmp_path) == 0


def test_a_refused_command_leaves_the_settings_of_the_run(run, trained):
    before = files(trained)
    assert "holds a finished run with other settings: sae.k 4 -> 5" in run(trained, "sae.k=5")
    assert "k must be in" in run(trained, "sae.k=65", "resume=false")
    assert files(trained) == before
    config = yaml.safe_load((trained / ".hydra" / "config.yaml").read_text())
    assert (config["sae"]["k"], config["ckpt_path"]) == (4, None)
    assert "sae.k=4" in yaml.safe_load((trained / ".hydra" / "overrides.yaml").read_text())
    choices = yaml.safe_load((trained / ".hydra" / "hydra.yaml").read_text())["hydra"]["runtime"]["choices"]
    assert choices["data"] == "image_folder"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sae.k=65"], "k must be in 1..d_sae=64, got 65"),
        (["data.batch_size=65"], "the train store has 64 rows, fewer than a batch of data.batch_size=65"),
        (
            ["trainer.check_val_every_n_epoch=1", "trainer.val_check_interval=3"],
            "trainer.val_check_interval=3 is more than the 2 batches of a pass",
        ),
        (["trainer.max_steps=-1", "module.decay_fraction=0.1"], "cannot decay towards the end of an endless"),
        (["+trainer.gradient_clip_val=1.0"], "set module.gradient_clip=1.0"),
        (["callbacks=[checkpoint,modality]"], "a modality score needs images and texts in one data set"),
        (
            ["callbacks=[checkpoint,alignment,attribution,reliance,probe_vs_prompt]"],
            "compares by the factor",
        ),
        (["labels=file", "labels.path=none.txt", "callbacks=[checkpoint,alignment]"], "none.txt"),
        (["trainer.max_steps=0"], "trainer.max_steps must not be 0: a training of no step has no results"),
        (["+trainer.limit_train_batches=0"], "trainer.limit_train_batches must not be 0"),
        (["+trainer.limit_train_batches=0.1"], "trainer.limit_train_batches=0.1 of a pass"),
        (["+trainer.max_time=00:00:00:00"], "trainer.max_time must not be 0"),
        (["trainer.val_check_interval=0"], "trainer.val_check_interval must not be 0"),
        (["+trainer.accumulate_grad_batches=0"], "grad_batches must be a whole number of at least 1"),
        (["data.batch_size=0"], "batch_size must be a whole number of at least 1, got 0"),
        (["data.n_probe=-1"], "n_probe must be a whole number of at least 1, got -1"),
        (["data.memory_limit_gb=much"], "memory_limit_gb must be a number, got 'much'"),
        (["data.num_workers=-1"], "num_workers must be a whole number of at least 0, got -1"),
        (["sae.k=2.5"], "k must be in 1..d_sae=64, got 2.5"),
        (["+sae.knob=3"], "TopK does not take these settings of sae: "),
        (["+sae.aux_weight=nan"], "sae.aux_weight must be a number, got nan"),
        (["module.betas=[0.9]"], "betas must be two numbers in 0..1 below 1, got [0.9]"),
        (["module.lr=nan"], "lr must be a finite number above 0, got nan"),
        (["module.gradient_clip=-1"], "gradient_clip must be a finite number above 0, got -1"),
        (["task=nope"], "task must be fit or validate, got 'nope'"),
    ],
)
def test_what_would_fail_behind_the_capture_fails_before_it(run, tmp_path, overrides, message):
    said = str(run(tmp_path / "run", *overrides, f"data.store_dir={tmp_path / 'store'}"))
    assert message in said
    assert "HYDRA_FULL_ERROR" in said
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_folder_that_cannot_be_made_is_named(run, tmp_path):
    (tmp_path / "file").touch()
    assert f"hydra.run.dir={tmp_path}/file/run: Not a directory" in str(run(tmp_path / "file" / "run"))


def test_a_second_training_in_a_folder_is_refused(run, tmp_path):
    with claimed(tmp_path / ".running.lock", "", ""):
        assert f"{tmp_path} is in use by process {os.getpid()} on " in run(tmp_path)
        assert not (tmp_path / "run.json").exists()
    assert run(tmp_path) == 0
