"""From a finding to an exported classifier, end to end on a tiny run, against the plain CLIP."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch

from lightning_sae.audit.audited import audited_classifier
from lightning_sae.audit.estimate import Estimate
from lightning_sae.audit.findings import Audit, ClassResult, Culprit, Effect, Finding, Subject, write_audit
from lightning_sae.classifiers.linear import fit_probe
from lightning_sae.classifiers.saved_probe import save_probe
from lightning_sae.clip import load_clip
from lightning_sae.correct import WAYS, Rule, correct, load_classifier, read_record, save_classifier
from lightning_sae.correct.__main__ import main
from lightning_sae.correct.choice import SAME
from lightning_sae.correct.clamp import clamped
from lightning_sae.correct.corrected_classifier import HELD_WAYS
from lightning_sae.correct.embeddings import embed_split, view_culprits
from lightning_sae.correct.images import groups_of
from lightning_sae.correct.printed import AT_AN_EDGE, printed_on, view_printed
from lightning_sae.correct.refit import FitImages, cells_of, held_out, refit
from lightning_sae.correct.terminal import headline
from lightning_sae.data.store.shards import read_tensor
from lightning_sae.metrics import auroc
from lightning_sae.pairs.printing import Label, Style, put_label
from lightning_sae.runs.classifier import kept_probe, probe_classifier
from lightning_sae.runs.folder import open_run
from lightning_sae.runs.probe import probe_of
from lightning_sae.world import World, config_path, weights_path

ROOT = Path(__file__).parents[2]
N_VAL, N_TEST = 900, 700
SMALL = [
    *("data.n_train=256", f"data.n_val={N_VAL}", f"data.n_test={N_TEST}", "data.n_probe=8"),
    *("data.batch_size=128", "sae.d_sae=64", "sae.k=8", "module.decay_fraction=0", "+module.top_n=5"),
    *("trainer.accelerator=cpu", "trainer.max_steps=120", "trainer.val_check_interval=120", "logger=csv"),
    *("trainer.num_sanity_val_steps=0", "~callbacks.faithfulness", "~callbacks.reliance"),
    *(
        "~callbacks.spliced_accuracy",
        "~callbacks.truth",
        "~callbacks.pairs",
        "~callbacks.quality",
        "~callbacks.gallery",
    ),
    *("~callbacks.attribution", "~callbacks.checkpoint", "callbacks.progress.refresh_rate=0"),
    *("callbacks.alignment.draws=20", "callbacks.summary.classes=0"),
]

LOOSE = ["--max-loss", "0.05", "--max-group-loss", "1", "--max-class-loss", "1"]
LOOSE += ["--max-false-positive-rise", "1"]
ANY = Rule(*[1.0] * 4)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module", autouse=True)
def small_groups():
    """Let a refit do with the few images that there are."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("lightning_sae.correct.refit.LEAST", 3)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return trained(tmp_path_factory)


def trained(tmp_path_factory, *overrides):
    folder, store = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        given = [*SMALL, f"data.store_dir={store}", f"hydra.run.dir={folder}", *overrides]
        patch.setattr(sys, "argv", ["train.py", *given])
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    write_audit(audit_of(folder), folder)
    return folder


def prompts(run):
    return audited_classifier(run, audit_of(run.folder))


def audit_of(folder, classifier="prompts", without=()):
    """One finding, the star's, with the latents that tell the brown background best."""
    run = open_run(folder)
    seen = view_culprits(run, "val", range(run.sae.d_sae), run.data.class_names)
    values, truth = seen.factors["background"]
    told = [float(auroc(a, truth == values.index("brown"))) for a in seen.activations.T]
    best = torch.tensor(told).topk(2).indices.tolist()
    known = {"alignment": 0.1, "p_value": None, "agreement": 0.1, "p_random": None, "p_class": None}
    known |= {"net": None, "attribution": 1.0, "share": 0.4, "score": 1.0, "examples": ()}
    finding = Finding(
        number=1,
        class_name="star",
        kind="spurious",
        severity="high",
        harm=Estimate(value=0.3, low=0.2, high=0.4),
        harm_of="images with the cue",
        confidence=1.0,
        share=0.8,
        images=50,
        culprits=tuple(Culprit(latent=j, label="a|b", named=j == best[0], **known) for j in best),
        evidence=(),
        effect=Effect(),
        summary="star: <brown> background",
        advice=(),
    )
    subject = Subject(
        run=folder.name,
        clip="tiny",
        hook_point="visual.transformer.resblocks.3",
        tokens="cls",
        classifier=classifier,
        output="margin",
        judge="other",
        judge_independent=True,
        data="world",
        images=N_VAL,
        accuracy=None,
        fvu=None,
    )
    unknown = {"verdict": "no findings", "images": 0, "accuracy": None, "unexpected_share": None}
    classes = [
        ClassResult(name=name, prompts=(f"a photo of a {name}",), findings=(), **unknown)
        for name in run.data.class_names
        if name not in without
    ]
    return Audit(library_version="0", subject=subject, classes=tuple(classes), findings=(finding,))


@pytest.fixture(scope="module")
def run(folder):
    return open_run(folder)


@pytest.fixture(scope="module")
def plain():
    """Test images, their classes and embeddings by the CLIP alone."""
    world, clip = World("biased", "test", N_TEST), load_clip(config_path(), weights_path("biased"))
    images = [world.image(i) for i in range(N_TEST)]
    with torch.no_grad():
        embeddings = clip.encode_image(torch.stack([clip.preprocess(image) for image in images]))
    return clip, images, world, embeddings


@pytest.fixture(scope="module", params=WAYS)
def exported(request, folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / request.param
    main([str(folder), "--finding", "1", "--out", str(out), "--way", request.param, *LOOSE])
    return out


def test_the_figures_are_those_of_the_loaded_classifier(exported, plain):
    clip, images, world, embeddings = plain
    classifier, record = load_classifier(exported), read_record(exported)
    if record.held is None:
        predicted = classifier.predict(embeddings)
        assert not (exported / "sae").exists()
    else:
        predicted = classifier.classify(clip, images).argmax(1)
    assert record.measured.accuracy.after == pytest.approx(
        float((predicted == world.targets).double().mean()), abs=2e-3
    )
    texts = clip.encode_text([f"a photo of a {name}" for name in world.class_names])
    before = (embeddings @ texts.T).argmax(1)
    star = world.class_names.index("star")
    assert record.factor == "background=brown"
    values, of = world.factors["background"]
    for row in record.groups:
        if row.factor != "background":
            continue
        inside = of == values.index(row.value)
        for share, hits in {"before": before, "after": predicted}.items():
            others = (hits == star)[inside & (world.targets != star)].double().mean()
            assert getattr(row.false_positives, share) == pytest.approx(float(others), abs=0.01)
    assert record.measured.images == N_TEST
    assert (record.chosen.split, record.measured.split) == ("val", "test")
    assert record.chosen.worst.after < record.chosen.worst.before
    assert record.chosen.accuracy.after >= record.chosen.accuracy.before - 0.05 - 1e-9


def test_only_the_class_that_was_led_astray_changes(exported, plain, run):
    clip, _, world, _ = plain
    classifier, star = load_classifier(exported), world.class_names.index("star")
    texts = clip.logit_scale * clip.encode_text([f"a photo of a {name}" for name in world.class_names])
    others = torch.arange(24) != star
    torch.testing.assert_close(classifier.classes.weight[others], texts[others], rtol=1e-4, atol=1e-4)
    assert not classifier.classes.bias[others].any()
    edited = not torch.allclose(classifier.classes.weight[star], texts[star], atol=1e-3)
    assert edited == (exported.name in ("edit", "erase", "refit"))
    assert (classifier.held is None) == (exported.name not in HELD_WAYS)


def test_an_edit_uncorrelates_score_and_culprits(folder, run):
    finding = audit_of(folder).findings[0]
    corrected, record = correct(run, prompts(run), finding, "edit")
    seen = view_culprits(run, "val", record.latents, record.class_names)
    others, star = seen.targets != 0, corrected.class_names.index("star")
    assert star == 0
    whole = prompts(run).scores("logit").weight[star]
    for weight, share in ((whole, 1.0), (corrected.classes.weight[star], 1 - record.amount)):
        score = (seen.embeddings @ weight)[others]
        covariance = [float(torch.cov(torch.stack([score, a[others]]))[0, 1]) for a in seen.activations.T]
        if share == 1.0:
            full = covariance
        assert covariance == pytest.approx([share * c for c in full], abs=1e-3 * max(map(abs, full)))


def test_the_best_way_on_val_is_taken(folder, run):
    finding, classifier = audit_of(folder).findings[0], prompts(run)
    each = {way: correct(run, classifier, finding, way, rule=ANY).record for way in WAYS}
    best = correct(run, classifier, finding, rule=ANY).record
    smallest = min(record.chosen.worst.after for record in each.values())
    same = [record for record in each.values() if record.chosen.worst.after <= smallest + SAME]
    assert best.chosen.worst.after <= smallest + SAME
    assert best.chosen.damage == min(record.chosen.damage for record in same)
    assert best == each[best.way]
    # each says what a plain shift of the threshold reaches, which is one of the ways
    for record in each.values():
        assert record.plain_shift == each["shift"].shift
        assert record.measured.worst.shifted == each["shift"].measured.worst.after
        assert record.measured.false_positives.shifted == each["shift"].measured.false_positives.after
        by_name = {row.name: row.accuracy for row in each["shift"].classes}
        assert all(row.accuracy.shifted == by_name[row.name].after for row in record.classes)
        lost = sum(row.lost * row.images for row in record.classes) / sum(r.images for r in record.classes)
        assert record.measured.damage == pytest.approx(lost)
        gains = [row.accuracy.gain for row in record.classes]
        assert gains == sorted(gains)


def test_the_card_says_what_was_done(exported):
    text = (exported / "card.md").read_text()
    record = read_record(exported)
    assert "<brown>" not in text
    first, second = record.latents
    assert f'"a&#124;b" (latent {first}), ? (a&#124;b, latent {second})' in text
    assert "star: &#60;brown&#62; background" in text
    for group in record.groups:
        assert f"{group.value} | {group.own} |" in text
    assert text.count("\n| ") > len(record.groups) + len(record.classes)
    assert ("classifier.wrap(clip)" in text) == (record.held is not None)
    assert ("(five folds)" in text) == (record.way == "refit")
    assert record.clip["weights"] in text


def test_on_val_a_refit_is_judged_by_fits_to_other_images(folder, run):
    classifier = prompts(run)
    corrected, record = correct(run, classifier, audit_of(folder).findings[0], "refit", rule=ANY)
    seen, star = (
        view_culprits(run, "val", record.latents, record.class_names),
        record.class_names.index("star"),
    )
    logits = classifier.to(torch.empty(0)).logits(seen.embeddings)
    others = torch.arange(logits.shape[1]) != star
    margin = logits[:, star] - logits[:, others].logsumexp(1)
    cells = cells_of(seen.targets, star, groups_of(seen, record.factor))
    images = FitImages(seen.embeddings, margin, cells, seen.ids)
    whole = refit(images, record.amount).of(seen.embeddings)
    torch.testing.assert_close(
        corrected.logits(seen.embeddings)[:, star],
        logits[:, star] + whole + record.shift,
        rtol=1e-4,
        atol=1e-3,
    )
    logits[:, star] += held_out(images, [record.amount])[0] + record.shift
    right = (logits.argmax(1) == seen.targets).double().mean()
    assert record.chosen.accuracy.after == pytest.approx(float(right), abs=1e-9)


def test_a_look_alike_needs_no_images_of_the_class_with_the_cue(folder, run, monkeypatch):
    monkeypatch.setattr("lightning_sae.correct.refit.LEAST", 20)  # there are fewer stars on brown
    (finding,) = audit_of(folder).findings
    with pytest.raises(ValueError, match="in each of two groups 20 images of the class and 20 of others"):
        correct(run, prompts(run), finding, "refit", rule=ANY)
    alike = finding.model_copy(update={"kind": "polysemous"})
    assert correct(run, prompts(run), alike, "refit", rule=ANY).record.way == "refit"


def test_the_command_says_what_was_found(folder, tmp_path, capsys):
    out = tmp_path / "new" / "classifier"
    main([str(folder), "--finding", "1", "--out", str(out), "--way", "edit", *LOOSE])
    said = capsys.readouterr().out
    assert "background=brown" in said
    last = said.strip().splitlines()[-1]
    assert last.endswith(str(out))
    record = read_record(out)
    first, costs = said.strip().splitlines()[-3:-1]
    worst, taken = record.measured.worst, record.measured.false_positives
    assert first.startswith("star: edit; on test, before → after (by a plain shift): error of the worst ")
    for shares in (worst, taken):
        before, after, by_shift = (f"{100 * share:.1f}" for share in shares.model_dump().values())
        assert f"{before} → {after} % ({by_shift} %)" in first
    better_shift = record.chosen.worst.model_copy(update={"shifted": 0.0})
    chosen = record.chosen.model_copy(update={"worst": better_shift})
    beaten = headline(record.model_copy(update={"chosen": chosen}))
    assert beaten.startswith("star: edit, though on val a plain shift of the threshold does as well; on test")
    shift = headline(record.model_copy(update={"way": "shift", "chosen": chosen}))
    assert shift.startswith("star: a plain shift of the threshold; on test")
    loses = record.classes[0]
    assert loses.accuracy.gain == min(row.accuracy.gain for row in record.classes)
    assert costs.startswith(f"costs: {loses.name} " if loses.accuracy.gain < 0 else "costs: no class loses")
    assert [path.name for path in out.parent.iterdir()] == ["classifier"]
    assert sorted(path.name for path in out.iterdir()) == ["card.md", "classifier.safetensors", "config.json"]
    main([str(folder), "--finding", "1", "--out", str(out), "--way", "edit", *LOOSE])  # replaces its own


def test_saved_is_loaded(folder, run, tmp_path):
    finding, classifier = audit_of(folder).findings[0], prompts(run)
    for way in ("edit", "clamp"):
        correction = correct(run, classifier, finding, way, rule=ANY)
        save_classifier(correction, tmp_path / way)
        loaded = load_classifier(tmp_path / way)
        assert torch.equal(loaded.classes.weight, correction.classifier.classes.weight)
        assert torch.equal(loaded.classes.bias, correction.classifier.classes.bias)
        assert loaded.clip == correction.classifier.clip
        assert read_record(tmp_path / way) == correction.record
        if way == "clamp":
            x = torch.randn(5, run.sae.d_in)
            clamp, sae, hook_point = loaded.held
            assert hook_point == run.data.hook
            torch.testing.assert_close(
                clamped(sae, x, clamp), clamped(run.sae, x, correction.classifier.held.clamp)
            )


def test_a_probe_is_corrected_too(folder, run):
    classifier = audited_classifier(run, audit_of(run.folder, "probe"))
    world = World("balanced", "train", 256)
    embeddings = read_tensor(run.data.capture("train") / "images", "embeddings").float()
    assert classifier.kind == "probe"
    expected = fit_probe(embeddings, world.targets, 24)
    torch.testing.assert_close(classifier.weight, expected.weight)
    corrected, record = correct(run, classifier, audit_of(folder).findings[0], factor="culprits", rule=ANY)
    assert (record.kind, record.factor) == ("probe", "culprits")
    assert corrected.predict(embeddings).shape == (256,)


def test_the_probe_that_was_audited_is_corrected(folder, run, tmp_path):
    strong = probe_of(run.data, inverse_l2=0.01)
    save_probe(*strong, tmp_path / "probe")
    audited = probe_classifier(run, str(tmp_path / "probe"))
    audit = audit_of(folder, "probe")
    subject = audit.subject.model_copy(update={"classifier_source": audited.source})
    audit = Audit.model_validate_json(audit.model_copy(update={"subject": subject}).model_dump_json())
    found = audited_classifier(run, audit)
    assert torch.equal(found.weight, strong.probe.weight)
    assert not torch.allclose(found.weight, probe_of(run.data).probe.weight, atol=1e-2)
    for other in (strong._replace(class_names=strong.class_names[::-1]), probe_of(run.data)):
        save_probe(*other, tmp_path / "probe")
        with pytest.raises(ValueError, match="is not the one that was audited"):
            audited_classifier(run, audit)
    shutil.rmtree(tmp_path / "probe")
    with pytest.raises(FileNotFoundError, match="is no saved probe"):
        audited_classifier(run, audit)


def test_a_probe_that_was_fitted_for_an_audit_is_kept_beside_it(folder, run, tmp_path, monkeypatch):
    audited, audit = kept_probe(run, tmp_path / "run"), audit_of(folder, "probe")
    subject = audit.subject.model_copy(update={"classifier_source": audited.source})
    audit = Audit.model_validate_json(audit.model_copy(update={"subject": subject}).model_dump_json())
    shutil.move(tmp_path / "run", tmp_path / "moved")
    monkeypatch.setattr(run, "folder", tmp_path / "moved")
    found = audited_classifier(run, audit)
    assert torch.equal(found.weight, audited.weight)
    torch.testing.assert_close(found.weight, probe_of(run.data).probe.weight)
    save_probe(*probe_of(run.data, inverse_l2=0.01), tmp_path / "moved" / "audited_probe")
    with pytest.raises(ValueError, match="audited_probe is not the one that was audited"):
        audited_classifier(run, audit)


def test_a_typographic_finding_is_judged_by_the_printed_word(folder, run, plain, tmp_path):
    clip, images, world, _ = plain
    star, classifier = world.class_names.index("star"), prompts(run)
    val = view_culprits(run, "val", range(64), world.class_names)
    label = Label("star", AT_AN_EDGE[0])
    printed = view_printed(run, "val", label, torch.arange(200), tuple(range(64)), val)
    is_printed = torch.arange(200 + N_VAL) >= N_VAL
    reads = [
        float(auroc(torch.cat(a), is_printed))
        for a in zip(val.activations.T, printed.activations.T, strict=True)
    ]
    best = torch.tensor(reads).topk(2).indices.tolist()
    finding = audit_of(folder).findings[0]
    culprits = [c.model_copy(update={"latent": j}) for c, j in zip(finding.culprits, best, strict=True)]
    finding = finding.model_copy(update={"kind": "typographic", "culprits": tuple(culprits)})
    for way in ("edit", "ablate"):
        correction = correct(run, classifier, finding, way, rule=ANY)
        save_classifier(correction, tmp_path / way)
        corrected, record = load_classifier(tmp_path / way), read_record(tmp_path / way)
        assert (record.factor, record.printed.word) == ("printed", "star")
        assert 'the word "star" printed on them' in (tmp_path / way / "card.md").read_text()
        # the test images with the word, by the plain CLIP
        ids = printed_on(world.targets, star)
        style = Style(record.printed.font, record.printed.height, record.printed.place)
        labelled = [put_label(images[i], "star", style) for i in ids]
        hits = corrected.classify(clip, labelled).argmax(1) == star
        taken = float(hits[world.targets[ids] != star].double().mean())
        unprinted, printed = (row for row in record.groups if row.factor == "printed")
        assert printed.false_positives.after == pytest.approx(taken, abs=0.01)
        assert (unprinted.value, printed.value) == ("as they are", "star")
        assert printed.own + printed.others == len(ids)
        right = (corrected.classify(clip, images).argmax(1) == world.targets).double().mean()
        assert record.measured.accuracy.after == pytest.approx(float(right), abs=2e-3)
        assert (record.measured.images, record.groups[0].own) == (N_TEST, int((world.targets == star).sum()))
        assert sum(row.images for row in record.classes) == N_TEST
    with torch.no_grad():
        pixels = torch.stack([clip.preprocess(put_label(images[i], *label)) for i in range(5)])
        seen = view_printed(run, "test", label, torch.arange(5), (0,), view_culprits(run, "test", (0,), ()))
        torch.testing.assert_close(seen.embeddings, clip.encode_image(pixels), rtol=1e-4, atol=1e-4)


def test_a_classifier_of_some_of_the_classes(folder, run, plain):
    _, _, world, embeddings = plain
    gone = ("heart", "anchor")
    classifier = audited_classifier(run, audit_of(folder, without=gone))
    corrected, record = correct(run, classifier, audit_of(folder).findings[0], "edit", rule=ANY)
    names = [name for name in world.class_names if name not in gone]
    assert list(record.class_names) == names
    predicted = [names[c] for c in corrected.predict(embeddings)]
    truth = [world.class_names[c] for c in world.targets]
    inside = [p == t for p, t in zip(predicted, truth, strict=True) if t not in gone]
    assert record.measured.accuracy.after == pytest.approx(sum(inside) / len(inside), abs=2e-3)
    whole = record.groups[0]
    assert whole.others == sum(t != "star" for t in truth)  # hearts and anchors can be taken for stars
    taken = sum(p == "star" and t != "star" for p, t in zip(predicted, truth, strict=True))
    assert whole.false_positives.after == pytest.approx(taken / whole.others, abs=2e-3)


def test_a_middle_layer_goes_through_the_whole_clip(tmp_path_factory, plain, tmp_path):
    folder = trained(
        tmp_path_factory, "hook_point=visual.transformer.resblocks.1", "tokens=patch", "trainer.max_steps=5",
        "trainer.val_check_interval=5", "data.n_val=120", "data.n_test=60",
    )  # fmt: skip
    run = open_run(folder)
    correction = correct(
        run, prompts(run), audit_of(folder).findings[0], "ablate", "culprits", ANY._replace(min_group=1)
    )
    save_classifier(correction, tmp_path / "out")
    clip, images, _, _ = plain
    loaded = load_classifier(tmp_path / "out")
    embeddings = embed_split(run, "test", correction.classifier.held)
    torch.testing.assert_close(
        loaded.classify(clip, images[:60]), loaded.logits(embeddings), rtol=1e-4, atol=1e-3
    )


def test_another_clip_is_refused(exported):
    other = load_clip(config_path(), weights_path("balanced"))
    classifier, world = load_classifier(exported), World("biased", "test", 2)
    with pytest.raises(ValueError, match=r"corrected classifier was made for another CLIP \(.*weights"):
        classifier.classify(other, [world.image(0)])
    with pytest.raises(ValueError, match="another CLIP"), classifier.wrap(other):
        pass
    with classifier.wrap(other, strict=False) as clip:
        assert clip is other


def test_damaged_and_foreign_folders(exported, tmp_path):
    def copy(name):
        return Path(shutil.copytree(exported, tmp_path / name))

    with pytest.raises(FileNotFoundError, match=r"is no exported classifier: config\.json is missing"):
        load_classifier(tmp_path)
    cut = copy("cut")
    weights = cut / "classifier.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(ValueError, match="is damaged or incomplete"):
        load_classifier(cut)
    foreign = copy("foreign")
    (foreign / "config.json").write_text('{"variant": "TopK"}')
    with pytest.raises(ValueError, match="is no record of format 2"):
        load_classifier(foreign)
    newer = copy("newer")
    content = json.loads((newer / "config.json").read_text())
    (newer / "config.json").write_text(json.dumps(content | {"format_version": 3}))
    with pytest.raises(ValueError, match="format_version"):
        load_classifier(newer)
    (newer / "config.json").write_text(json.dumps(content | {"class_names": ["a", "b"]}))
    with pytest.raises(ValueError, match=r"must hold weight \[2, d_embed\]"):
        load_classifier(newer)
    half = copy("half")
    (half / "config.json").write_text((half / "config.json").read_text()[:200])
    with pytest.raises(ValueError, match="is no record"):
        load_classifier(half)
    with pytest.raises(ValueError, match=r"embeddings must be \[n, "):
        load_classifier(exported).predict(torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--finding", "7"], "there is no finding 7: the audit has 1"),
        (["--finding", "1", "--factor", "weather"], "no factor 'weather': take one of class, colour"),
        (["--finding", "1", "--out", str(ROOT)], "holds other files than an exported classifier"),
        (["--finding", "1", "--out", str(ROOT / "README.md")], "is a file; name a new folder"),
        (["--finding", "1", "--max-loss", "-1"], "are shares and must be in"),
    ],
)
def test_what_the_user_can_mend_ends_in_one_message(folder, tmp_path, arguments, message):
    with pytest.raises(SystemExit, match=message):
        main([str(folder), "--out", str(tmp_path / "out"), *arguments])
    assert not list(tmp_path.iterdir())


def test_a_run_without_an_audit(tmp_path):
    with pytest.raises(SystemExit, match=r"has no audit\.json"):
        main([str(tmp_path), "--finding", "1", "--out", str(tmp_path / "out")])


def test_a_finding_of_another_run(run, folder):
    classifier, finding = prompts(run), audit_of(folder).findings[0]
    with pytest.raises(ValueError, match="'unicorn', which is no class"):
        correct(run, classifier, finding.model_copy(update={"class_name": "unicorn"}))
    culprit = finding.culprits[0].model_copy(update={"latent": 999})
    with pytest.raises(ValueError, match=r"names the latents \[999\], the run has 0\.\.63"):
        correct(run, classifier, finding.model_copy(update={"culprits": (culprit,)}))
