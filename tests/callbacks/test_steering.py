"""Steering on a short training: tables, columns, logged values, and edits that the data do not know."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from callbacks.latent_table import LatentTable
from callbacks.steering import Steering
from lightning_sae.pairs.counterfactuals import Counterfactuals
from lightning_sae.pairs.edited_pairs import EditedPairs
from lightning_sae.pairs.edits import Patch
from lightning_sae.pairs.seen_pairs import SeenPairs, see_pairs
from lightning_sae.steering.study import METHODS

STRENGTHS = [0.0, 0.5, 1.0, 2.0]


def callback(**options):
    edits = EditedPairs({"red": Patch("red", 0.6), "blue": Patch("blue", 0.6)}, n_images=24)
    sources = {"redrawn": Counterfactuals(per_value=6), "edits": edits, "none": None}
    return Steering(sources, {"background": ["{} background"]}, STRENGTHS, min_pairs=6, every=1, **options)


@pytest.fixture(scope="module")
def steered(fit, tmp_path_factory):
    return fit(tmp_path_factory.mktemp("steering"), {"steering": callback(), "table": LatentTable()})


def test_every_value_is_steered_in_every_way(steered):
    rows = pd.read_csv(steered.folder / "steering.csv")
    assert {*rows["factor"]} == {"class", "colour", "background", "word", "patch"}
    assert {*rows["method"]} == {*METHODS}
    assert rows[["success", "damage"]].stack().between(0, 1).all()
    start = rows[rows["strength"] == 0]
    assert (start["damage"] == 0).all()
    by_value = start.groupby(["factor", "value"])[["success", "distance"]]
    assert (by_value.std().fillna(0).to_numpy() < 1e-6).all()  # as it is, however it is steered
    known = rows.dropna(subset="low")
    assert (known["low"] <= known["auc"] + 1e-9).all()
    assert (known["auc"] <= known["high"] + 1e-9).all()
    means = rows[rows["strength"] == 1].groupby("method")["success"].mean()
    assert means["means"] > means["random"] + 0.2


def test_logged_values_and_columns(steered):
    found, logged = steered.find(Steering).found, steered.trainer.callback_metrics
    rows = pd.read_csv(steered.folder / "steering.csv")
    for method in METHODS:
        ending = "" if method == "latent" else f"_{method}"
        mine = rows[(rows["method"] == method) & (rows["strength"] == 1)]
        for name in ("auc", "success", "damage"):
            assert float(logged[f"steering/{name}{ending}"]) == pytest.approx(mine[name].mean(), abs=1e-6)
    latents = pd.read_csv(steered.folder / "latents.csv").set_index("latent")
    areas = latents["steering_auc"].dropna()
    assert {*areas.index} == {j for j in found.latents if j in latents.index}
    assert areas.between(0, 1).all()
    with Image.open(steered.folder / "pictures" / "steering.png") as picture:
        assert picture.width > 300


def test_a_latent_by_hand(steered):
    """Success of the strongest latent of one value, by the model itself."""
    from lightning_sae.data.store.shards import read_tensor
    from lightning_sae.pairs.responses import FactorValue, activation_scale, halves_of
    from lightning_sae.steering.intervention import Scale, intervene
    from lightning_sae.steering.readouts import known_readouts

    data, sae, found = steered.data, steered.module.sae.eval(), steered.find(Steering).found
    mine = next(s for s in found.methods if s.method == "latent" and s.value.factor == "background")
    callback_ = steered.find(Steering)
    seen = SeenPairs.stack([see_pairs(data, source) for source in callback_.sources.values()])
    images = callback_.sources["redrawn"].pairs(data.images("val"))
    embeddings = read_tensor(data.capture("val") / "images", "embeddings").float()
    probe = known_readouts(data.class_names, data.class_embeddings, embeddings, data.images("val").factors)[
        "background"
    ]
    latents = sae.encode(torch.cat([batch.x for batch in data.val_dataloader()]))
    unit = activation_scale(latents)[mine.latent]
    hits = []
    for i in halves_of(seen.contrasts)[1]:
        contrast = seen.contrasts[i]
        if contrast.factor != "background" or mine.value.value not in (contrast.before, contrast.after):
            continue
        comes = FactorValue("background", contrast.after) == mine.value
        sides = [int(seen.before[i]), int(seen.after[i])][:: 1 if comes else -1]
        for side, edit, asked in zip(sides, (float(unit), Scale(0.0)), (True, False), strict=True):
            pixels = data.clip.preprocess(images.images[side])[None]
            with torch.no_grad(), intervene(data.clip, data.hook, sae, {mine.latent: edit}):
                read = int(probe.read(data.clip.encode_image(pixels)))
            hits.append((probe.values[read] == mine.value.value) == asked)
    assert mine.curve.means()[0][STRENGTHS.index(1.0)] == pytest.approx(np.mean(hits), abs=1e-6)


def test_where_no_source_has_pairs_nothing_is_done(fit, tmp_path):
    run = fit(tmp_path, {"steering": Steering({"none": None}), "table": LatentTable()})
    assert run.find(Steering).found is None
    assert not (tmp_path / "steering.csv").exists()
    assert "steering_auc" not in pd.read_csv(tmp_path / "latents.csv")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strengths": [0.5, 1.0]}, "must rise from 0"),
        ({"strengths": [0.0]}, "must rise from 0"),
        ({"strengths": [0.0, 1.0, 1.0]}, "must rise from 0"),
        ({"most_damage": 0.0}, "most_damage lie in"),
        ({"min_pairs": 0}, "min_pairs must be a whole number of at least 1"),
        ({"every": -1}, "every must be a whole number of at least 0"),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Steering({}, **options)
