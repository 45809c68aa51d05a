"""The page of a run: its numbers are those of the run, and nothing that a user wrote can run in it."""

import json
import re
import shutil
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch

from lightning_sae.attribution.ablation import remove_shares
from lightning_sae.attribution.explained import Explained, explain_probe
from lightning_sae.audit.audit import audit_to_folder
from lightning_sae.audit.evidence.cues import Limits
from lightning_sae.audit.evidence.evidence_pass import ready
from lightning_sae.audit.examination import Options
from lightning_sae.baselines.shown import LEGEND, SILENT
from lightning_sae.explorer import write_page
from lightning_sae.report import plain
from lightning_sae.runs.classifier import prompt_classifier
from lightning_sae.runs.folder import open_run
from lightning_sae.tracking.values import VALUES

from .conftest import SMALL, read_page

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def activations(driven_run):
    ready(driven_run)
    return torch.cat([batch.x for batch in driven_run.data.val_dataloader()])


def shares_removed(arrays, place, shares):
    """The logits as the script of the page computes them, from whole numbers and their units."""

    def matrix(name, n):
        full, units = np.zeros((n, n)), arrays.get(f"{name}_unit")
        full[np.triu_indices(n)] = arrays[name][place].astype(float) * (1 if units is None else units[place])
        return full + np.triu(full, 1).T

    c = np.concatenate([[1.0], -np.asarray(shares)])
    v = np.concatenate([c / np.sqrt(c @ matrix("effect_inputs", len(c)) @ c), [1.0]])
    products = arrays["effect_logits"][place].astype(float) * arrays["effect_logits_unit"][place]
    return products @ v / np.sqrt(v @ matrix("effect_outputs", len(v)) @ v) + arrays["effect_bias"][place]


def test_the_sliders_of_the_page_are_exact_at_the_last_layer(driven_run, page, activations):
    classifier, arrays = prompt_classifier(driven_run), page.arrays
    assert len(arrays["image_ids"]) > 100
    generator = np.random.default_rng(0)
    for place in range(0, len(arrays["image_ids"]), 10):
        image, rows = int(arrays["image_ids"][place]), arrays["image_latents"][place]
        shares = generator.random(len(rows))
        one = Explained.of(driven_run.data.tail, driven_run.sae, activations[image][None, None])
        known = rows >= 0
        latents = [page.columns["latent"][row] for row in rows[known]]
        embedding = remove_shares(one, latents, shares[known])
        expected = classifier.logits(embedding)[0, arrays["effect_classes"][place].tolist()]
        found = shares_removed(arrays, place, shares)
        assert found.tolist() == pytest.approx(expected.tolist(), abs=5e-3)


def test_images_are_told_as_clip_and_the_autoencoder_see_them(driven_run, page, activations):
    arrays, data = page.arrays, driven_run.data
    classifier = prompt_classifier(driven_run)
    ids = torch.tensor(arrays["image_ids"])
    predicted = classifier.predict(data.tail(activations[ids][:, None], None))
    assert arrays["image_predicted"].tolist() == predicted.tolist()
    assert arrays["image_targets"].tolist() == data.images("val").targets[ids].tolist()
    dense = driven_run.sae.encode(activations[ids]).to_dense()
    for place, rows in enumerate(arrays["image_latents"]):
        known = rows[rows >= 0]
        latents = [page.columns["latent"][row] for row in known]
        assert set(latents) <= set(dense[place].nonzero().flatten().tolist())
        unit = float(arrays["image_activations_unit"][place])
        shown = arrays["image_activations"][place][rows >= 0] * unit
        assert shown.tolist() == pytest.approx(dense[place, latents].tolist(), abs=unit)


def test_classes_have_the_rows_of_the_tables(driven_run, page):
    attribution = pd.read_csv(driven_run.folder / "attribution.csv")
    reliance = pd.read_csv(driven_run.folder / "reliance.csv")
    records = {record["name"]: record for record in page.columns["records"]}
    assert list(records) == driven_run.data.class_names
    for name, rows in attribution.groupby("class"):
        record, foreign = records[name], reliance.loc[reliance["class"] == name, "latent"].tolist()
        assert record["latents"] == rows["latent"].tolist()
        assert record["attributions"] == pytest.approx(rows["attribution"].tolist(), rel=1e-2)
        assert record["unexpected"] == [int(latent in foreign) for latent in record["latents"]]
    targets = driven_run.data.images("val").targets
    assert [record["own"] for record in records.values()] == torch.bincount(targets, minlength=24).tolist()
    assert sum(record["called"] for record in records.values()) == len(targets)


def test_the_images_of_a_class_are_what_they_are_said_to_be(driven_run, page):
    place = {int(image): at for at, image in enumerate(page.arrays["image_ids"])}
    for c, record in enumerate(page.columns["records"]):
        for kind, ids in record["images"].items():
            for at in (place[image] for image in ids):
                target, predicted = page.arrays["image_targets"][at], page.arrays["image_predicted"][at]
                expected = {"right": target == predicted == c, "taken": predicted == c != target}
                assert expected.get(kind, target == c != predicted)


def test_the_page_needs_nothing_and_its_policy_forbids_requests(page):
    assert "connect-src" not in page.text
    assert not re.search(r'(src|href)="(?!data:image/webp|#|audit\.html)', page.text)
    script = page.text.split('<script type="module">')[1]
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(", script)


def test_maps_and_measured_removals_in_the_middle_of_clip(small_patch_run, tmp_path):
    run = open_run(small_patch_run)
    page = read_page(write_page(run, tmp_path))
    arrays = page.arrays
    assert "effect_inputs" not in arrays
    maps, store = arrays["maps"], run.data.val_dataloader().store
    for at in range(0, len(maps), 7):
        latent = page.columns["latent"][arrays["map_rows"][at]]
        for place, image in enumerate(run.top_images(latent)[: maps.shape[1]]):
            dense = run.sae.encode(store.images(torch.tensor([image]))[0]).to_dense()[:, latent].detach()
            expected = (255 * dense / dense.max()).round().reshape(maps.shape[2:])
            assert np.abs(maps[at, place] - expected.numpy()).max() <= 1
    measured = np.flatnonzero(arrays["effect_row"] >= 0)
    assert set(arrays["image_ids"][measured]) <= set(run.data.probe.image_ids.tolist())
    classifier = prompt_classifier(run)
    for place in measured[:3]:
        row, image = arrays["effect_row"][place], int(arrays["image_ids"][place])
        rows = (run.data.probe.image_ids == image).nonzero().flatten()
        one = explain_probe(run.data, run.sae, rows)
        classes = arrays["effect_classes"][row].tolist()
        for m, latent_row in enumerate(arrays["image_latents"][place]):
            if latent_row < 0:
                continue
            edited = remove_shares(one, [page.columns["latent"][latent_row]], [1.0])
            expected = classifier.logits(edited)[0, classes].tolist()
            assert arrays["effect_without"][row, m].tolist() == pytest.approx(expected, abs=1e-4)


HOSTILE = "</script><img src=x onerror=alert(1)>\u202e"


@contextmanager
def replaced(values, others):
    """Values of a run, which others share, replaced for a while."""
    before = values.clone() if isinstance(values, torch.Tensor) else [*values]
    values[:] = others
    yield
    values[:] = before


def test_nothing_that_a_user_wrote_becomes_a_tag(driven_run, tmp_path):
    run = open_run(driven_run.folder)
    run.latents = run.latents.assign(label=HOSTILE, attribution_class=HOSTILE)
    with replaced(run.data.images("val").class_names, [HOSTILE] * 24):
        page = read_page(write_page(run, tmp_path))
    assert "onerror" not in page.text
    assert page.columns["labels"][0] == plain(HOSTILE)
    assert plain(HOSTILE) in page.columns["classes"]


def test_a_page_that_cannot_be_written_takes_nothing_from_the_training(train_py, tmp_path, capsys):
    words = [*SMALL, "trainer.max_steps=4", "trainer.val_check_interval=4", "~callbacks.save_sae"]
    words += ["~callbacks.reliance", "~callbacks.attribution", "~callbacks.spliced_accuracy"]
    assert train_py(*words, f"data.store_dir={tmp_path / 'store'}", f"hydra.run.dir={tmp_path / 'run'}") == 0
    said = capsys.readouterr().out
    assert "could not be written" in said
    assert "lightning-sae report" in said
    assert json.loads((tmp_path / "run" / "run.json").read_text())["metrics"]


def test_an_audit_of_other_weights_is_not_shown(driven_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(driven_run.folder, folder)
    run = open_run(folder)
    audit_to_folder(run, folder, options=Options("logit", Limits(min_images=10_000)))  # looks at no class
    records = read_page(write_page(run, folder)).columns["records"]
    assert {r["verdict"] for r in records} == {"not enough evidence"}
    audit = json.loads((folder / "audit.json").read_text())
    audit["subject"]["sae_sha256"] = "0" * 64
    (folder / "audit.json").write_text(json.dumps(audit))
    assert not any(r["verdict"] for r in read_page(write_page(run, folder)).columns["records"])


def test_images_without_a_class_are_no_errors(driven_run, tmp_path):
    run = open_run(driven_run.folder)
    targets = run.data.images("val").targets
    partly = torch.where(torch.arange(len(targets)) % 2 == 0, -1, targets)
    with replaced(targets, partly):
        page = read_page(write_page(run, tmp_path))
    targets = partly
    for record in page.columns["records"]:
        assert all(targets[image] >= 0 for image in record["images"]["taken"])
    assert sum(record["called"] for record in page.columns["records"]) == int((targets >= 0).sum())


def test_a_run_with_few_tables_has_a_page(driven_run, tmp_path):
    run = open_run(driven_run.folder)
    run.latents = run.latents[["density", "top_images"]]
    for name in ("attribution", "reliance", "metrics"):
        run._tables[name] = pd.DataFrame()
    page = read_page(write_page(run, tmp_path))
    assert page.columns["numbers"].keys() == {"density"}
    assert all(record["latents"] == [] for record in page.columns["records"])


def test_numbers_stand_beside_their_baselines_and_say_where_they_do_not_tell(driven_run, page):
    table = pd.read_csv(driven_run.folder / "baselines.csv")
    section = re.search(r'<section id="baselines">.*?</section>', page.text, re.DOTALL).group()
    assert LEGEND in section
    judged = table[table["tells"].notna() & (table["key"] == "val/fvu")]
    assert f"<b>{judged['trained'].iloc[0]:.4f}</b>" in section
    for row in judged.itertuples():
        assert f"{row.baseline_value:.4f}" in section
    shown = [key for key, value in VALUES.items() if value.title]
    silent = table[(table["tells"].astype(str) == "False") & table["key"].isin(shown)]
    assert section.count(SILENT) == len(silent) + 1  # the legend has one, too
