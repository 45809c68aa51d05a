"""Labels of a short training, tested against plain formulas on the whole validation split."""

import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch.nn.functional import cosine_similarity, normalize

from callbacks.alignment import Alignment
from callbacks.label_table import LabelTable, _strip
from lightning_sae.concepts.vocabulary import Vocabulary

WORDS = ["star", "circle", "red", "blue", "green background", "ring", "word"]


@pytest.fixture(scope="module")
def run(fit, tmp_path_factory):
    alignment = Alignment(Vocabulary(WORDS), draws=60, fdr=0.5, min_validity=0.6, min_held_out=3)
    return fit(tmp_path_factory.mktemp("alignment"), {"alignment": alignment}, max_steps=4)


@pytest.fixture(scope="module")
def activations(run):
    batches = list(run.data.val_dataloader())
    return run.module.sae.encode(torch.cat([batch.x for batch in batches])).to_dense()


@pytest.fixture(scope="module")
def columns(run):
    return pd.DataFrame(run.find(Alignment).latent_columns())


def test_p_counts_the_random_sets_that_reach_the_score(run, columns):
    nulls = list((run.data.judge_folder / "nulls").glob("best_label_z-*.safetensors"))
    sizes = {int(m) for m in (run.module.top_images.image_ids >= 0).sum(1)} - {0}
    assert len(nulls) >= len(sizes)
    p = columns["p"].dropna()
    assert ((p * 61 - (p * 61).round()).abs() < 1e-9).all()
    assert p.min() >= 1 / 61
    assert set(columns["draws"]) == {60}
    assert (columns["p"].isna() == (columns["label"] == "")).all()


def test_validity_is_the_auroc_on_images_that_did_not_name_the_latent(run, columns, activations):
    texts = dict(zip(WORDS, run.data.judge.encode_text(WORDS), strict=True))
    known = 0
    for j, row in columns.iterrows():
        top = run.module.top_images.image_ids[j].tolist()
        held_out = [i for i in range(160) if i not in top]
        fires = activations[held_out, j] > 0
        if fires.sum() < 3:
            assert pd.isna(row["validity"])
            assert not row["named"]
            continue
        similarity = run.data.judge_embeddings[held_out] @ texts[row["label"]]
        # two images that are equally similar but for the last bit of float32 may be ordered either way
        one_pair = 1 / float(fires.sum() * (~fires).sum())
        assert row["validity"] == pytest.approx(roc_auc_score(fires, similarity), abs=1.01 * one_pair)
        known += 1
    assert known > 20


def test_named_is_significant_and_valid(run, columns):
    named = columns["significant"] & (columns["validity"] >= 0.6)
    assert columns["named"].tolist() == named.tolist()
    logged = run.trainer.callback_metrics
    assert 0 < float(logged["alignment/named"]) == named.sum()
    alive = (columns["label"] != "").sum()
    assert float(logged["alignment/named_share"]) == pytest.approx(named.sum() / alive)
    assert float(logged["alignment/significant_share"]) == pytest.approx(columns["significant"].sum() / alive)
    assert float(logged["alignment/validity_p50"]) == pytest.approx(columns["validity"].median(), abs=1e-5)


def test_other_scores_are_of_the_same_label(run, columns):
    data, sae = run.data, run.module.sae
    e, visual = data.judge.encode_text([""])[0], data.clip.visual
    for j, row in columns[columns["label"] != ""].head(20).iterrows():
        ids = run.module.top_images.image_ids[j]
        v = data.judge_embeddings[ids[ids >= 0]].mean(0)
        t = data.judge.encode_text([row["label"]])[0]
        assert row["semantic_lens"] == pytest.approx(float(cosine_similarity(v, t - e, dim=0)), abs=1e-5)
        w = sae.W_dec[j].detach()
        d = normalize(((w - w.mean()) * visual.ln_post.weight) @ visual.proj, dim=0)
        text, empty = data.clip.encode_text([row["label"], ""])
        assert row["decoder_alignment"] == pytest.approx(float(d @ text - d @ empty), abs=1e-5)
        assert row["second_label"] in set(WORDS) - {row["label"]}


def test_nulls_and_texts_are_computed_once_for_all_runs(run, fit, tmp_path, monkeypatch):
    import callbacks.alignment as module
    import lightning_sae.concepts.stored_vocabulary as stored

    def refuse(*args, **kwargs):
        raise AssertionError("computed again")

    monkeypatch.setattr(stored, "embed_labels", refuse)
    monkeypatch.setattr(module, "best_label_null", refuse)
    again = Alignment(Vocabulary(WORDS), draws=60, fdr=0.5, min_validity=0.6, min_held_out=3)
    fit(tmp_path, {"alignment": again}, max_steps=4)
    assert torch.equal(again.embedded.texts, run.find(Alignment).embedded.texts)
    monkeypatch.undo()
    monkeypatch.setattr(module, "best_label_null", refuse)
    with pytest.raises(AssertionError, match="computed again"):
        fit(tmp_path, {"alignment": Alignment(Vocabulary(WORDS), draws=61)}, max_steps=4)


def test_a_middle_layer_has_no_decoder_alignment(fit, tmp_path):
    alignment = Alignment(Vocabulary(WORDS), draws=20)
    fit(tmp_path, {"alignment": alignment}, "visual.transformer.resblocks.1", "patch", max_steps=4)
    columns = alignment.latent_columns()
    assert "decoder_alignment" not in columns
    assert {"semantic_lens", "validity", "p", "named"} <= set(columns)


def test_the_table_with_thumbnails(run, fit, tmp_path, monkeypatch):
    import callbacks.label_table as module

    shown = []
    monkeypatch.setattr(module, "publish_illustrated", lambda *args: shown.append(args[1:]))
    callbacks = {"alignment": Alignment(Vocabulary(WORDS), draws=20), "table": LabelTable(7, 3, every=3)}
    fit(
        tmp_path, callbacks, max_steps=8, val_check_interval=2
    )  # passes at 2, 4, 6, 8: the third and the last
    assert len(shown) == 2
    key, table, picture = shown[-1]
    assert key == "labels"
    assert len(table) == 7
    assert table["named"].is_monotonic_decreasing
    strip = picture(table.iloc[0])
    assert strip.size == (3 * 64, 64)


def test_a_strip_has_the_top_images_in_order():
    images = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    strip = _strip(torch.tensor([[9, 9, 9], [1, 0, -1]]), images, pd.Series({"latent": 1}))
    assert [strip.getpixel((64 * i + 5, 5)) for i in range(3)] == [(0, 0, 255), (255, 0, 0), (255, 255, 255)]


@pytest.mark.parametrize(
    "arguments", [{"draws": 0}, {"min_held_out": 0}, {"fdr": 0.0}, {"fdr": 1.0}, {"min_validity": 1.5}]
)
def test_settings_out_of_range(arguments):
    with pytest.raises(ValueError, match="must be"):
        Alignment(Vocabulary(), **arguments)
    with pytest.raises(ValueError, match="must be at least 1"):
        LabelTable(rows=0)
