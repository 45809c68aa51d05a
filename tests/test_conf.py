"""Every YAML composes, and each of its keys is a parameter of its `_target_`."""

import inspect
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException
from hydra.utils import get_object, instantiate
from lightning.pytorch import Trainer
from omegaconf import OmegaConf

from lightning_sae.data import ActivationDataModule
from lightning_sae.sae import SparseAutoencoder

CONF = Path(__file__).parents[1] / "conf"
ADDED = {"engine"}  # groups that train.yaml does not choose from
CHOICES = sorted(
    f"{'+' * (path.parent.name in ADDED)}{path.parent.name}={path.stem}"
    for path in CONF.glob("*/*.yaml")
    if path.parent.name != "experiment"
)
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))

OTHER_DEFAULTS = {
    ("SplicedAccuracy", "factor_templates"): "words of the embedded world",
    ("Steering", "templates"): "words of the embedded world",
    ("load_clip", "pretrained"): "a model that people know, in a YAML of its own",
    ("JumpReLU", "target_l0"): "as many as the k of the other variants",
    ("one_line_errors", "on_cpu"): "how train.py is told",
}
"""Arguments that a YAML sets to something else than their signature, and why."""


def composed(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=[*overrides, "run_dir=RUN"])


def targets(node):
    """Every node with a `_target_`, unresolved."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from targets(child)


def parameters(target):
    """Names that a target accepts; what the data factories hand on is the datamodule's."""
    accepted = inspect.signature(target).parameters
    if inspect.isclass(target) and issubclass(target, SparseAutoencoder):
        return set(target.parameter_names())
    if "activations" in accepted:
        handed_on = inspect.signature(ActivationDataModule).parameters.keys() - {"images"}
        return {*accepted, *handed_on} - {"activations"}
    return set(accepted)


@pytest.mark.parametrize(
    "overrides", [[c] for c in CHOICES] + [[f"experiment={e}"] for e in EXPERIMENTS], ids=str
)
def test_every_key_is_a_parameter(overrides):
    for node in targets(OmegaConf.to_container(composed(*overrides))):
        target = get_object(node["_target_"])
        accepted = parameters(target)
        if "d_sae" in accepted or not any(
            p.kind == p.VAR_KEYWORD for p in inspect.signature(target).parameters.values()
        ):
            assert set(node) - {"_target_", "_partial_"} <= accepted, node["_target_"]
        elif accepted & {"edition", "root", "path"}:
            assert set(node) - {"_target_"} <= accepted, node["_target_"]


def defaults(target):
    """Argument -> default, of a target and of what it hands its other arguments on to."""
    found = dict(inspect.signature(target).parameters)
    if "activations" in found:
        found |= inspect.signature(ActivationDataModule).parameters
    if "options" in found:
        found |= inspect.signature(SparseAutoencoder).parameters
    return {name: p.default for name, p in found.items() if p.default is not p.empty}


@pytest.mark.parametrize("choice", CHOICES)
def test_a_notebook_gets_what_the_command_gets(choice):
    for node in targets(OmegaConf.to_container(composed(choice))):
        target = get_object(node["_target_"])
        if target.__module__.split(".")[0] not in ("lightning_sae", "callbacks"):
            continue
        for name, default in defaults(target).items():
            value = node.get(name, default)
            if (target.__name__, name) in OTHER_DEFAULTS or "${" in str(value) or "_target_" in str(value):
                continue
            assert value == (list(default) if isinstance(default, tuple) else default), (target, name)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.filterwarnings("ignore")
def test_every_experiment_instantiates(experiment, tmp_path):
    cfg = composed(f"experiment={experiment}", "trainer.accelerator=cpu")
    cfg.run_dir = str(tmp_path)
    instantiate(cfg.module)
    callbacks = [instantiate(node) for node in cfg.callbacks.values()]
    loggers = [instantiate(node) for node in cfg.logger.values()]
    assert isinstance(instantiate(cfg.trainer, callbacks=callbacks, logger=loggers), Trainer)
    assert not list(tmp_path.iterdir())  # nothing is written before something is known


def test_the_default_experiment_is_the_default():
    plain, named = composed(), composed("experiment=default")
    assert plain == named


def test_the_papers_setting():
    cfg = composed("experiment=paper_cls")
    assert (cfg.clip.model, cfg.clip.pretrained) == ("ViT-B-32", "datacomp_xl_s13b_b90k")
    assert (cfg.sae.d_sae, cfg.sae.k, cfg.module.lr) == (30000, 64, 2e-4)
    assert (cfg.hook_point, cfg.tokens) == ("visual.transformer.resblocks.11", "cls")


def test_values_of_an_experiment_can_be_overridden():
    assert composed("experiment=paper_cls", "sae.k=32").sae.k == 32


@pytest.mark.parametrize("override", ["trainer.max_step=3", "sae.dsae=8", "hookpoint=visual", "data.rooot=x"])
def test_a_misspelt_key_is_an_error(override):
    with pytest.raises(ConfigCompositionException, match="Could not override"):
        composed(override)


def test_a_callback_is_left_out_by_a_tilde():
    assert "gallery" in composed().callbacks
    assert "gallery" not in composed("~callbacks.gallery").callbacks


@pytest.mark.parametrize("variant", sorted(path.stem for path in (CONF / "sae").glob("*.yaml")))
def test_a_checkpoint_holds_the_settings_of_every_variant(tmp_path, variant):
    """It is read without running what a file names, and so holds nothing of Hydra's."""
    module = instantiate(composed(f"sae={variant}").module)
    torch.save(dict(module.hparams), tmp_path / "settings.pt")
    read = torch.load(tmp_path / "settings.pt", weights_only=True)
    assert read["sae"]["d_sae"] == 256
