"""Moran's I in `latents.csv`, where tokens are places."""

import pandas as pd
import pytest
import torch

from callbacks.latent_table import LatentTable
from callbacks.spatial import Spatial
from lightning_sae.metrics import morans_i
from lightning_sae.types import SparseLatents

BLOCK = "visual.transformer.resblocks.1"


@pytest.mark.parametrize("tokens", ["patch", "all"])
def test_the_columns_are_the_means_over_all_images(fit, tmp_path, tokens):
    run = fit(tmp_path, {"spatial": Spatial(), "table": LatentTable()}, BLOCK, tokens, max_steps=4)
    grid = run.data.clip.visual.grid_size
    x = torch.cat([batch.x for batch in run.data.val_dataloader()])
    latents = run.module.sae.encode(x).to_dense().detach().view(160, -1, 96)[:, -grid[0] * grid[1] :]
    maps = morans_i(SparseLatents.from_dense(latents.flatten(0, 1)), grid)
    table = pd.read_csv(tmp_path / "latents.csv").set_index("latent")
    for latent, row in table.iterrows():
        mine = (maps.latents == latent) & (maps.n_active > 1)
        assert row["morans_i"] == pytest.approx(float(maps.morans_i[mine].mean()), rel=1e-5, nan_ok=True)
    logged = run.trainer.callback_metrics
    assert float(logged["spatial/morans_i"]) == pytest.approx(table["morans_i"].mean(), rel=1e-5)
    assert float(logged["spatial/morans_z"]) == pytest.approx(table["morans_z"].mean(), rel=1e-5)


def test_a_class_token_is_no_place(fit, tmp_path):
    run = fit(tmp_path, {"spatial": Spatial(), "table": LatentTable()}, max_steps=4)
    assert "morans_i" not in pd.read_csv(tmp_path / "latents.csv")
    assert "spatial/morans_i" not in run.trainer.callback_metrics
