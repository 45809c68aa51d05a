"""Pairs on a short training, against the formulas on dense latents."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from callbacks.latent_table import LatentTable
from callbacks.pairs import Pairs
from lightning_sae.clip import capture
from lightning_sae.pairs.counterfactuals import Counterfactuals
from lightning_sae.pairs.edited_pairs import EditedPairs
from lightning_sae.pairs.edits import Patch
from lightning_sae.pairs.responses import activation_scale
from lightning_sae.pairs.seen_pairs import see_pairs


def callback(**options):
    edits = EditedPairs({"red": Patch("red", 0.4)}, n_images=20)
    sources = {"redrawn": Counterfactuals(per_value=6), "edits": edits, "none": None}
    return Pairs(sources, min_pairs=6, rows=2, **options)


@pytest.fixture(scope="module")
def pairs_run(fit, tmp_path_factory):
    found = {"pairs": callback(), "latent_table": LatentTable()}
    return fit(tmp_path_factory.mktemp("pairs"), found)


def test_every_row_of_the_table_is_by_the_definitions(pairs_run):
    data, sae = pairs_run.data, pairs_run.module.sae
    callback = pairs_run.find(Pairs)
    scale = activation_scale(sae.encode(torch.cat([batch.x for batch in data.val_dataloader()])))
    rows = pd.read_csv(pairs_run.folder / "pairs.csv")
    assert {*rows["factor"]} == {"class", "colour", "background", "word", "patch"}
    moved = callback.found.moved
    dense = moved.changes.toarray() / scale
    factors = np.array([contrast.factor for contrast in moved.contrasts])
    for row in rows[::7].itertuples():
        sign = np.array(
            [
                (c.after == row.value) * 1.0 - (c.before == row.value) if c.factor == row.factor else 0.0
                for c in moved.contrasts
            ]
        )
        samples = (sign[:, None] * dense)[sign != 0][:, row.latent]
        assert row.pairs == len(samples)
        assert row.response == pytest.approx(samples.mean(), abs=1e-4)
        assert row.right_way == pytest.approx((samples > 0).mean() + (samples == 0).mean() / 2)
        side = max(np.abs(dense[factors == f, row.latent]).mean() for f in {*factors} - {row.factor})
        assert row.side_effect == pytest.approx(side, abs=1e-4)


def test_the_changes_are_those_of_the_images(pairs_run):
    data, sae = pairs_run.data, pairs_run.module.sae
    source = EditedPairs({"red": Patch("red", 0.4)}, n_images=20)
    images, seen = source.pairs(data.images("val")), see_pairs(data, source)
    pixels = torch.stack([data.clip.preprocess(images.images[i]) for i in range(40)])

    with torch.no_grad(), capture(data.clip, [data.hook]) as found:
        data.clip.encode_image(pixels)
    latents = sae.encode(found[data.hook][:, 0]).to_dense().detach().numpy()
    changes = seen.changes(sae).toarray()
    np.testing.assert_allclose(changes, latents[images.after] - latents[images.before], atol=1e-4)


def test_logged_values_and_columns(pairs_run):
    logged = pairs_run.trainer.callback_metrics
    first = pd.read_csv(pairs_run.folder / "pairs.csv").groupby(["factor", "value"], sort=False).first()
    assert len(first) == len(pairs_run.find(Pairs).found.values)  # some latent rises for each of them
    for name in ("response", "right_way", "selectivity", "specificity"):
        assert float(logged[f"pairs/{name}"]) == pytest.approx(first[name].mean(), abs=1e-5)
    latents = pd.read_csv(pairs_run.folder / "latents.csv").set_index("latent")
    assert {"factor", "response", "side_effect"} <= {*latents.columns}
    assert latents["response"].notna().equals(latents["factor"].notna())
    with Image.open(pairs_run.folder / "pictures" / "pairs.png") as picture:
        assert picture.width > 300


def test_clip_runs_once_over_the_images(pairs_run, monkeypatch):

    def refuse(*_):
        raise AssertionError("CLIP runs again")

    monkeypatch.setattr("lightning_sae.data.probe_images.capture_context", refuse)
    source = pairs_run.find(Pairs).sources["redrawn"]
    assert len(see_pairs(pairs_run.data, source).contrasts) == 6 * (24 + 8 + 5 + 6)


def test_where_no_source_has_pairs_nothing_is_done(fit, tmp_path, monkeypatch):
    monkeypatch.setattr(Counterfactuals, "pairs", lambda self, images: None)
    run = fit(tmp_path, {"pairs": Pairs({"redrawn": Counterfactuals()}), "latent_table": LatentTable()})
    assert run.find(Pairs).found is None
    assert not (tmp_path / "pairs.csv").exists()
    assert "factor" not in pd.read_csv(tmp_path / "latents.csv")


@pytest.mark.parametrize("options", [{"min_pairs": 0}, {"rows": 0}])
def test_arguments_out_of_range(options):
    with pytest.raises(ValueError, match="must be at least 1"):
        Pairs({}, **options)
