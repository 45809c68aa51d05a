"""Quality on a short training: its log, its columns, and its memory across a resume."""

from functools import partial

import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch.nn.functional import cosine_similarity

from callbacks.alignment import Alignment
from callbacks.latent_table import LatentTable
from callbacks.quality import Quality
from lightning_sae.concepts.quality import polysemanticity, redundancy, semantic_lens_polysemanticity
from lightning_sae.concepts.vocabulary import Vocabulary
from lightning_sae.metrics import monosemanticity
from lightning_sae.sae import TopK
from lightning_sae.training.module import SAEModule

CHANGE = ["alignment/churn", "alignment/identity", "alignment/identity_images"]


class Recorder(Callback):
    """What the latents were at each validation pass."""

    def __init__(self):
        self.passes = []

    def on_validation_end(self, trainer, pl_module):
        alignment = next(c for c in trainer.callbacks if isinstance(c, Alignment))
        _, image_ids = pl_module.top_images.compute()
        labels = alignment.concepts.labels if alignment.concepts else []  # a sanity check gives none
        self.passes.append((pl_module.sae.W_dec.detach().clone(), image_ids, labels))


def callbacks():
    return {
        "alignment": Alignment(Vocabulary()),
        "quality": Quality(semantic_lens=True),
        "latent_table": LatentTable(),
        "recorder": Recorder(),
    }


@pytest.fixture(scope="module")
def quality_run(fit, tmp_path_factory):
    return fit(tmp_path_factory.mktemp("quality"), callbacks(), num_sanity_val_steps=1)


def test_the_scores_are_those_of_the_whole_split(quality_run):
    run, logged = quality_run, quality_run.trainer.callback_metrics
    embeddings = run.data.judge_embeddings
    batches = list(run.data.val_dataloader())
    latents = run.module.sae.encode(torch.cat([b.x for b in batches]))
    _, image_ids = run.module.top_images.compute()
    known = image_ids[:, 0] >= 0
    want = {
        "polysemanticity": polysemanticity(image_ids, embeddings),
        "polysemanticity_semantic_lens": semantic_lens_polysemanticity(image_ids, embeddings),
        "monosemanticity": monosemanticity(latents, embeddings),
        "redundancy_decoder": redundancy(run.module.sae.W_dec.detach(), known).cosine,
    }
    table = pd.read_csv(run.folder / "latents.csv").set_index("latent")
    for key, scores in want.items():
        assert float(logged[f"alignment/{key}"]) == pytest.approx(float(scores.nanmean()), abs=1e-5)
        found = torch.tensor(table[key][known.nonzero().flatten().tolist()].tolist())
        torch.testing.assert_close(found, scores[known].float(), equal_nan=True, atol=1e-5, rtol=1e-5)
    assert 0 < float(logged["alignment/redundancy"]) <= 1


def test_the_change_is_that_between_the_last_two_passes(quality_run):
    (old_rows, old_ids, old_labels), (rows, ids, labels) = quality_run.find(Recorder).passes[-2:]
    logged = quality_run.trainer.callback_metrics
    both = [j for j in range(96) if old_ids[j, 0] >= 0 and ids[j, 0] >= 0]
    changed = sum(old_labels[j] != labels[j] for j in both) / len(both)
    assert float(logged["alignment/churn"]) == pytest.approx(changed)
    cosine = cosine_similarity(old_rows, rows)[both].mean().item()
    assert float(logged["alignment/identity"]) == pytest.approx(cosine, abs=1e-5)
    sets = [(set(old_ids[j].tolist()) - {-1}, set(ids[j].tolist()) - {-1}) for j in both]
    overlap = sum(len(a & b) / len(a | b) for a, b in sets) / len(sets)
    assert float(logged["alignment/identity_images"]) == pytest.approx(overlap)


def test_the_first_pass_has_nothing_to_compare_with(fit, tmp_path):
    run = fit(tmp_path, callbacks(), max_steps=4, num_sanity_val_steps=1)
    assert "alignment/monosemanticity" in run.trainer.callback_metrics
    assert not set(CHANGE) & set(run.trainer.callback_metrics)


def test_without_labels_there_is_no_churn(fit, tmp_path):
    run = fit(tmp_path, {"quality": Quality()})
    assert set(CHANGE) & set(run.trainer.callback_metrics) == set(CHANGE[1:])
    assert "alignment/polysemanticity_semantic_lens" not in run.trainer.callback_metrics


def test_validate_and_resume_give_what_fit_gave(fit, tmp_path):
    whole = fit(tmp_path / "whole", callbacks(), max_steps=8)
    keys = [key for key in whole.trainer.callback_metrics if key.startswith("alignment/")]
    want = {key: float(whole.trainer.callback_metrics[key]) for key in keys}
    (validated,) = whole.trainer.validate(whole.module, datamodule=whole.data, verbose=False)
    assert {key: validated[key] for key in keys} == pytest.approx(want)
    half = fit(tmp_path / "half", callbacks(), max_steps=4)
    half.trainer.save_checkpoint(tmp_path / "half.ckpt")
    rest = Trainer(
        max_steps=8,
        val_check_interval=4,
        check_val_every_n_epoch=None,
        default_root_dir=tmp_path / "rest",
        accelerator="cpu",
        callbacks=list(callbacks().values()),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = SAEModule(partial(TopK, d_sae=96, k=6), 1e-3, warmup_steps=1, decay_fraction=0, top_n=5)
    rest.fit(module, datamodule=half.data, ckpt_path=tmp_path / "half.ckpt")
    resumed = {key: float(rest.callback_metrics[key]) for key in keys}
    assert resumed == pytest.approx(want, abs=1e-6)
