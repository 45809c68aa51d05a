"""Latents without a name in a short training, against plain formulas on the whole validation split."""

import pandas as pd
import pytest
import torch

from callbacks.alignment import Alignment
from callbacks.novelty import NovelConcepts


@pytest.fixture(scope="module")
def columns(run):
    return pd.DataFrame(run.find(NovelConcepts).latent_columns())


def test_p_counts_the_random_sets_that_are_as_alike(run, columns):
    """61 values are possible, and latents of a training are clearer than random images."""
    p = columns["clarity_p"].dropna()
    assert ((p * 61 - (p * 61).round()).abs() < 1e-9).all()
    e = run.data.judge_embeddings
    for j in p.index[:10]:
        ids = run.module.top_images.image_ids[j]
        rows = e[ids[ids >= 0]]
        n = len(rows)
        own = ((rows @ rows.T).sum() - n) / (n * (n - 1))
        sets = torch.stack([torch.randperm(len(e), generator=torch.Generator().manual_seed(i))[:n]
                            for i in range(400)])  # fmt: skip
        null = [(e[s] @ e[s].T).sum().sub(n).div(n * (n - 1)) for s in sets]
        assert p[j] == pytest.approx(float((torch.stack(null) >= own).float().mean()), abs=0.2)


def test_novel_is_alike_and_not_named(run, columns):
    named = run.find(Alignment).latent_columns()["named"]
    assert not (columns["novel"] & pd.Series(named)).any()
    assert (columns["clarity_p"][columns["novel"]] < 0.5).all()
    assert ((columns["novel_group"] >= 0) == columns["novel"]).all()
    logged = run.trainer.callback_metrics
    assert 0 < float(logged["concepts/novel"]) == columns["novel"].sum()
    alive = (run.module.top_images.image_ids[:, 0] >= 0).sum()
    assert float(logged["concepts/novel_share"]) == pytest.approx(columns["novel"].sum() / float(alive))
    assert float(logged["concepts/novel_groups"]) == columns["novel_group"].max() + 1


def test_the_table_has_the_columns(run):
    table = pd.read_csv(run.folder / "latents.csv")
    assert {"clarity_p", "novel", "novel_group"} <= set(table)


@pytest.mark.parametrize("arguments", [{"draws": 0}, {"fdr": 0.0}, {"fdr": 1.0}])
def test_settings_out_of_range(arguments):
    with pytest.raises(ValueError, match="must be"):
        NovelConcepts(**arguments)
