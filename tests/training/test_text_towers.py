"""Autoencoders on the text tower and on the final embedding of both, from the command line."""

from pathlib import Path

import pandas as pd
import pytest

from lightning_sae.explain.__main__ import main as explain
from lightning_sae.sae import load_sae

ROOT = Path(__file__).parents[2]
SMALL = [
    *("data.n_train=192", "data.n_val=144", "data.n_test=1", "data.n_probe=24", "data.batch_size=64"),
    *("sae.d_sae=48", "sae.k=4", "module.decay_fraction=0", "trainer.accelerator=cpu", "logger=csv"),
    *("trainer.max_steps=6", "trainer.val_check_interval=6", "callbacks.progress.refresh_rate=0"),
    *("callbacks.alignment.draws=50", "callbacks.gallery.rows=4"),
]
DRAWS = "callbacks.reliance.draws=100"

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def train(train_py, store, tmp_path):
    def train(*overrides):
        if said := train_py(*SMALL, f"data.store_dir={store}", f"hydra.run.dir={tmp_path}", *overrides):
            raise SystemExit(said)
        return tmp_path

    return train


def last(folder, key):
    return pd.read_csv(folder / "metrics.csv")[key].dropna().iloc[-1]


def test_an_autoencoder_on_the_text_tower(train):
    """All callbacks of the default run through with captions in the place of pictures."""
    run = train("experiment=text_tower", DRAWS)
    names = {path.name for path in run.iterdir()}
    tables = "metrics latents attribution reliance reliance_groups faithfulness truth"
    assert {f"{table}.csv" for table in tables.split()} <= names
    assert last(run, "zero_shot/original") > 0.5  # a caption is nearest to pictures of what it names
    assert last(run, "faithfulness/ablation_deletion") <= last(run, "faithfulness/random_deletion")
    assert set(pd.read_csv(run / "latents.csv")) >= {"label", "alignment", "attribution_class"}
    provenance = load_sae(run / "sae").provenance
    assert (provenance["hook_point"], provenance["tokens"]) == ("transformer.resblocks.1", "eot")
    assert (run / "pictures" / "gallery.png").exists()
    with pytest.raises(SystemExit, match=r"has latents of texts .*, and no image reaches them"):
        explain([str(run), "--image", str(ROOT / "docs/pictures/gallery.png"), "--prompt", "star"])


def test_an_autoencoder_on_the_final_embedding_of_both(train):
    run = train("experiment=joint_embedding")
    latents = pd.read_csv(run / "latents.csv", keep_default_na=False)
    assert latents["modality"].astype(float).between(0, 1).all()
    shares = [last(run, f"modality/{name}") for name in ("images", "texts", "both")]
    assert sum(shares) == pytest.approx(1)
    counts = latents["fires_on"].value_counts(normalize=True)
    assert [counts.get(name, 0) for name in ("images", "texts", "both")] == pytest.approx(shares)
    assert load_sae(run / "sae").provenance["hook_point"] == "visual, text"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hook_point=transformer.resblocks.1", "tokens=eot"], "the data are images, which never reach"),
        (["data=world_captions"], "the data are texts, which never reach visual"),
        (["data=world_joint"], "hook_point=visual tokens=pooled, got"),
    ],
)
def test_data_of_the_other_tower(train, overrides, message):
    with pytest.raises(SystemExit, match=message):
        train(*overrides)
