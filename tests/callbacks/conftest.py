"""A short training on the embedded world, with every callback."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from lightning.pytorch import Callback, Trainer, seed_everything

from callbacks.alignment import Alignment
from callbacks.attribution import Attribution
from callbacks.baselines import Baselines
from callbacks.faithfulness import Faithfulness
from callbacks.gallery import Gallery
from callbacks.latent_table import LatentTable
from callbacks.novelty import NovelConcepts
from callbacks.quality import Quality
from callbacks.reliance import UnexpectedReliance
from callbacks.save_sae import SaveSAE
from callbacks.spliced_accuracy import SplicedAccuracy
from callbacks.summary import Summary
from callbacks.truth import Truth
from lightning_sae.attribution.methods import Ablation, ActGrad
from lightning_sae.clip import load_clip
from lightning_sae.concepts.vocabulary import Vocabulary
from lightning_sae.data import ActivationDataModule, WorldImages
from lightning_sae.sae import TopK
from lightning_sae.tracking.csv_logger import RunCSVLogger
from lightning_sae.training.module import SAEModule
from lightning_sae.world import config_path, weights_path

TOPK = partial(TopK, d_sae=96, k=6)


class Run(NamedTuple):
    trainer: Trainer
    module: SAEModule
    data: ActivationDataModule
    folder: Path

    def find(self, kind):
        return next(c for c in self.trainer.callbacks if isinstance(c, kind))


def all_callbacks() -> dict[str, Callback]:
    return {
        "alignment": Alignment(Vocabulary()),
        "novelty": NovelConcepts(draws=60),
        "quality": Quality(),
        "truth": Truth(min_images=5, ks=[1, 4]),
        "attribution": Attribution(),
        "spliced_accuracy": SplicedAccuracy({"colour": ["{}"]}, min_group=1),
        "reliance": UnexpectedReliance(min_images=3, level=0.1, draws=100),
        "faithfulness": Faithfulness({"act_grad": ActGrad(), "ablation": Ablation()}, n_images=12, steps=4),
        "baselines": Baselines(),
        "gallery": Gallery(rows=3, images=4, every=2),
        "latent_table": LatentTable(),
        "save_sae": SaveSAE(),
        "summary": Summary(),
    }


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def clips():
    return [load_clip(config_path(), weights_path(edition)) for edition in ("biased", "balanced")]


@pytest.fixture(scope="session")
def fit(store, clips):
    def fit(
        folder,
        callbacks,
        hook_point="visual.transformer.resblocks.3",
        tokens="cls",
        ckpt_path=None,
        hook_points=None,
        make_sae=TOPK,
        **trainer,
    ) -> Run:
        seed_everything(0, verbose=False)
        data = ActivationDataModule(
            WorldImages("biased", n_train=256, n_val=160, n_test=1),
            clips[0],
            hook_point,
            tokens,
            hook_points=hook_points,
            judge=clips[1],
            store_dir=str(store),
            batch_size=64,
            eval_batch_size=70,
            n_probe=72,
        )
        module = SAEModule(make_sae, 1e-3, warmup_steps=1, decay_fraction=0, top_n=5)
        settings = {"max_steps": 8, "val_check_interval": 4, "check_val_every_n_epoch": None}
        settings |= {"enable_checkpointing": False} | trainer
        trainer = Trainer(
            default_root_dir=folder,
            accelerator="cpu",
            callbacks=list(callbacks.values()),
            logger=RunCSVLogger(str(folder)),
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=2,
            **settings,
        )
        trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
        return Run(trainer, module, data, folder)

    return fit


@pytest.fixture(scope="session")
def run(fit, tmp_path_factory) -> Run:
    return fit(tmp_path_factory.mktemp("run"), all_callbacks())


@pytest.fixture
def callbacks():
    return all_callbacks()
