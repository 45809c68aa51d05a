"""Whatever can be added takes one file of Python and one of YAML, outside of the repository."""

import json
import sys

import pandas as pd
import pytest

from lightning_sae.audit import read_audit
from lightning_sae.clip import TokenRule
from lightning_sae.runs.folder import open_run
from lightning_sae.sae import SparseAutoencoder

VARIANT = """
from lightning_sae.sae import TopK

class Half(TopK):
    def __init__(self, d_in, d_sae, **options):
        super().__init__(d_in, d_sae, k=d_sae // 16, **options)
"""
CALLBACK = """
from lightning.pytorch import Callback

class Firing(Callback):
    def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0):
        module.log("mine/active", float(len(outputs.latents.values)) / len(outputs.latents))

    def latent_columns(self):
        return {"mine": range(64)}
"""
SOURCE = """
import torch
from PIL import Image
from lightning_sae.data import ActivationDataModule

class Reds:
    class_names, vocabulary, factors = ["red", "dark"], ["red", "dark", "fox"], {}

    def __init__(self, split, n):
        self.split, self.targets = split, torch.arange(n) % 2

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, i):
        return Image.new("RGB", (16, 16), (255 - 100 * (i % 2), i % 256, (7 * i) % 256))

    def identity(self):
        return {"name": f"reds-{self.split}", "n": len(self)}

class Source:
    def split(self, name):
        return Reds(name, {"train": 128, "val": 96, "test": 8}[name])

def reds(**activations):
    return ActivationDataModule(Source(), **activations)
"""
RULE = """
from lightning_sae.clip.token_rules import Selection, TokenRule

class FirstPatch(TokenRule):
    name = "first_patch"

    def select(self, clip, hook_point, whole):
        return Selection(1, 2) if whole.ndim == 3 else None
"""
METHOD = """
def largest(explained, score):
    return explained.latents.values
"""
OUTPUT = """
from lightning_sae.classifiers.outputs import Output

class Lead(Output):
    name = "lead"

    def scores(self, logits):
        return logits - logits.logsumexp(-1, keepdim=True) / 2
"""
LABELS = """
from lightning_sae.concepts.vocabulary import Vocabulary

def seas():
    return Vocabulary(["north sea", "black sea", "red sea"])
"""
YAML = {
    "sae/half": "_target_: mine_variant.Half\n_partial_: true\nd_sae: 64\n",
    "callbacks/firing": "firing: {_target_: mine_callback.Firing}\n",
    "data/reds": "_target_: mine_source.reds\n"
    "defaults: [base/activations@_here_, /clip@judge: world_balanced]\n",
    "experiment/first_patch": "# @package _global_\ntokens: {_target_: mine_rule.FirstPatch}\n",
    "callbacks/method": "faithfulness: {methods: {mine: "
    "{_target_: hydra.utils.get_method, path: mine_method.largest}}}\n",
    "callbacks/lead": "attribution: {output: {_target_: mine_output.Lead}, over: all}\n"
    "audit: {output: {_target_: mine_output.Lead}}\n",
    "labels/seas": "_target_: mine_labels.seas\n",
}
PYTHON = {
    "variant": VARIANT,
    "callback": CALLBACK,
    "source": SOURCE,
    "rule": RULE,
    "method": METHOD,
    "output": OUTPUT,
    "labels": LABELS,
}
SETTINGS = [
    *("sae=half", "data=reds", "labels=seas", "experiment=first_patch", "logger=csv"),
    "callbacks=[progress,alignment,attribution,faithfulness,method,latent_table,save_sae,firing,audit,lead]",
    *("hook_point=visual.transformer.resblocks.1", "data.n_probe=8", "data.batch_size=32"),
    *("callbacks.alignment.draws=20", "callbacks.progress.refresh_rate=0", "module.decay_fraction=0"),
    *("trainer.max_steps=4", "trainer.val_check_interval=4", "trainer.num_sanity_val_steps=0"),
    *("trainer.accelerator=cpu", "+module.top_n=5"),
]


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder with a file of Python and one of YAML for each kind of thing."""
    monkeypatch.syspath_prepend(tmp_path)
    for name, content in PYTHON.items():
        (tmp_path / f"mine_{name}.py").write_text(content)
    for name, content in YAML.items():
        path = tmp_path / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    yield tmp_path
    SparseAutoencoder.variants.pop("Half", None)
    TokenRule.known.pop("first_patch", None)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_run_of_ones_own(train_py, mine, monkeypatch):
    folders = [f"hydra.run.dir={mine / 'run'}", f"data.store_dir={mine / 'store'}"]
    assert train_py("--config-dir", str(mine / "conf"), *SETTINGS, *folders) == 0
    saved = json.loads((mine / "run" / "sae" / "cfg.json").read_text())
    assert (saved["variant"], saved["provenance"]["tokens"]) == ("Half", "first_patch")
    latents = pd.read_csv(mine / "run" / "latents.csv")
    assert latents["mine"].equals(latents["latent"])
    assert set(latents["label"]) <= {"north sea", "black sea", "red sea"}
    metrics = pd.read_csv(mine / "run" / "metrics.csv")
    assert metrics["mine/active"].dropna().iloc[-1] == 4  # of the one token of an image
    assert metrics["faithfulness/mine_deletion"].dropna().iloc[-1] >= 0
    assert read_audit(mine / "run").subject.output == "lead"
    SparseAutoencoder.variants.pop("Half")
    monkeypatch.delitem(sys.modules, "mine_variant")  # as in a command later on
    trusted = ["mine_source", "mine_rule"]
    with pytest.raises(ValueError, match=r"unknown SAE variant 'Half'.*--trust"):
        open_run(mine / "run", trusted=trusted)
    assert open_run(mine / "run", trusted=[*trusted, "mine_variant"]).sae.k == 4


def test_a_rule_needs_a_name_of_its_own():
    class All(TokenRule):
        name = "all"

        def select(self, clip, hook_point, whole):
            return None

    with pytest.raises(ValueError, match="a name of its own, got 'all'"):
        All()
