"""The command and the callback, end to end on a tiny run."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch

from callbacks.audit import Audit
from lightning_sae.audit import read_audit
from lightning_sae.audit.__main__ import main
from lightning_sae.audit.audit import audit_run
from lightning_sae.audit.evidence.cues import Limits
from lightning_sae.audit.evidence.evidence_pass import check_images, ready, view_split
from lightning_sae.audit.examination import Options
from lightning_sae.audit.findings import severity_of
from lightning_sae.classifiers.classifier import Classifier
from lightning_sae.classifiers.linear import LinearClassifier
from lightning_sae.classifiers.saved_probe import save_probe
from lightning_sae.concepts.naming import names_of
from lightning_sae.data import JointDataModule
from lightning_sae.program.audit import FOUND
from lightning_sae.runs.classifier import prompt_classifier
from lightning_sae.runs.folder import open_run

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning"), pytest.mark.usefixtures("few_drawn_words")]
LOOSE = Options("logit", Limits(min_images=1, min_errors=2, detects=0.6, fades=0.4, unexpected_share=0.01))


@pytest.fixture(scope="session")
def opened(small_run):
    run = open_run(small_run)
    ready(run)
    return run


@pytest.fixture(scope="session")
def opened_learned(train_small):
    """Of an autoencoder that has learned the brown background, which the CLIP takes for a star."""
    run = open_run(train_small("learned", "trainer.max_steps=150", "trainer.val_check_interval=150"))
    ready(run)
    return run


@pytest.fixture(scope="session")
def opened_patches(small_patch_run):
    run = open_run(small_patch_run)
    ready(run)
    return run


def test_what_is_seen_is_what_dense_tensors_say(opened):
    classifier = prompt_classifier(opened)
    scores = classifier.scores("margin")
    found = view_split(opened, classifier, scores)
    x = torch.cat([batch.x for batch in opened.data.val_dataloader()])
    assert torch.equal(found.attributed, torch.arange(len(x)))
    torch.testing.assert_close(found.latents.to_dense(), opened.sae.encode(x).to_dense())
    assert torch.equal(found.predicted, scores.logits(opened.data.tail(x[:, None], None)).argmax(1))
    a = found.latents.to_dense().detach().requires_grad_()
    rest = x - a.detach() @ opened.sae.W_dec
    own = scores(opened.data.tail((a @ opened.sae.W_dec + rest)[:, None], None))
    (g,) = torch.autograd.grad(own.gather(1, found.predicted[:, None]).sum(), a)
    torch.testing.assert_close(found.attributions.to_dense(), (a * g).detach(), rtol=1e-3, atol=1e-5)


def test_behind_a_block_in_the_middle_the_probe_images_are_attributed(opened_patches):
    data, classifier = opened_patches.data, prompt_classifier(opened_patches)
    found = view_split(opened_patches, classifier, classifier.scores("margin"))
    assert torch.equal(found.attributed, data.probe.image_ids)
    assert (len(found.predicted), len(found.latents), len(found.attributions)) == (96, 96, 8)
    (explained,) = found.explained
    assert torch.equal(explained.image_ids, found.attributed)
    of_probe = explained.latents.to_dense().view(8, explained.x.shape[1], -1).amax(1)
    torch.testing.assert_close(found.latents.to_dense()[found.attributed], of_probe, rtol=1e-4, atol=1e-4)
    embeddings = data.tail(explained.x, explained.context)
    torch.testing.assert_close(embeddings, found.embeddings[found.attributed], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["opened_learned", "opened_patches"])
def test_an_audit_that_finds_much_is_whole_after_one_pass(name, request, monkeypatch):
    run, passes = request.getfixturevalue(name), []
    load = run.data.val_dataloader
    monkeypatch.setattr(run.data, "val_dataloader", lambda: passes.append(1) or load())
    audit = audit_run(run, options=LOOSE)
    assert passes == [1]
    assert [f.number for f in audit.findings] == list(range(1, len(audit.findings) + 1))
    if name == "opened_learned":
        (star,) = [f for f in audit.findings if f.class_name == "star"]
        assert (star.kind, star.effect.cue) == ("spurious", "background=brown")
        assert "with background=brown" in star.summary
        assert star.harm.value == pytest.approx(_fallen(star.effect.cue_false_positives))
        assert "background=brown" in [gap.group for gap in audit.classes[0].gaps]
    names = dict(zip(run.latents.index, names_of(run.latents), strict=True))
    for finding in audit.findings:
        assert all((c.label, c.named) == names[c.latent] for c in finding.culprits)
        (result,) = [r for r in audit.classes if finding.number in r.findings]
        assert (result.name, result.verdict) == (finding.class_name, "findings")
        assert all(0 < c.share <= 1 and c.attribution > 0 and c.score > 0 for c in finding.culprits)
        assert finding.culprits[0].score == max(c.score for c in finding.culprits)
        assert finding.severity == severity_of(finding.harm.value)
        assert finding.harm.low <= finding.harm.value <= finding.harm.high
        assert f"--finding {finding.number} " in finding.advice[-1]
        assert any(e.passed for e in finding.evidence)


def _fallen(change):
    return change.as_it_is - change.without


@pytest.fixture
def saved_probe(opened, tmp_path):
    """The prompts as a probe."""
    data, folder = opened.data, tmp_path / "probe"
    weights = data.clip.logit_scale * data.class_embeddings
    probe = LinearClassifier(weights, torch.zeros(len(weights)))
    save_probe(probe, data.class_names, {"clip": data.clip.identity()}, folder)
    return folder


def test_two_classes_of_one_name_have_findings_of_their_own(opened_learned):
    own = prompt_classifier(opened_learned)
    names = [own.class_names[0], *own.class_names[2:6], own.class_names[0]]
    rows = [0, *range(2, 6), 1]
    classifier = Classifier(own.weight[rows], own.bias[rows], names, [[name] for name in names])
    audit = audit_run(opened_learned, classifier, LOOSE)
    assert audit.findings
    numbers = sorted(number for result in audit.classes for number in result.findings)
    assert numbers == [finding.number for finding in audit.findings]


def test_the_command_writes_and_prints(small_run, saved_probe, tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    main([str(small_run), "--min-images", "2", "--out", str(out)])
    said = capsys.readouterr().out
    assert said.rstrip().endswith(str(out / "audit.html"))
    assert sorted(path.name for path in out.iterdir()) == ["audit.html", "audit.json"]
    audit = read_audit(out)
    assert (audit.subject.images, audit.subject.tokens, audit.subject.classifier) == (96, "cls", "prompts")
    assert {result.verdict for result in audit.classes} >= {"not enough evidence"}
    assert "not enough evidence: " in said
    before = (out / "audit.html").stat().st_mtime_ns
    (out / "audit.json").write_text("{}")
    main([str(small_run), "--classifier", str(saved_probe), "--out", str(out)])
    assert read_audit(out).subject.classifier == "probe"
    assert (out / "audit.html").stat().st_mtime_ns > before


@pytest.fixture
def prompts(tmp_path):
    def prompts(**of_class):
        path = tmp_path / "prompts.json"
        path.write_text(json.dumps(of_class))
        return str(path)

    return prompts


def test_prompts_of_some_classes_and_of_another(small_run, prompts, tmp_path):
    given = prompts(star=["a photo of a star"], heart=["a heart", "hearts"], zebra=["a zebra"])
    main([str(small_run), "--prompts", given, "--min-images", "1", "--out", str(tmp_path)])
    star, heart, zebra = read_audit(tmp_path).classes
    assert heart.prompts == ("a heart", "hearts")
    assert star.accuracy is not None
    assert (zebra.name, zebra.accuracy) == ("zebra", None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.store_dri=x"], "unexpected keyword argument 'store_dri'"),
        (["dta.store_dir=x"], r"an override is KEY=VALUE, as data\.store_dir=DIR; got 'dta\.store_dir=x'"),
        (["store"], "an override is KEY=VALUE"),
        (["--classifier", "nowhere"], "the classifier must be prompts, probe or the folder of a probe"),
        (["--classifier", "probe", "--prompts", "p.json"], "a probe has no prompts: leave out --prompts"),
        (["--prompts", "nowhere.json"], r"No such file .*nowhere\.json"),
    ],
)
def test_what_the_user_can_mend_ends_in_one_message(small_run, tmp_path, words, message):
    with pytest.raises(SystemExit, match=message):
        main([str(small_run), "--out", str(tmp_path), *words])
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(SystemExit, match="is no run folder"):
        main([str(tmp_path)])


def test_prompts_of_other_classes_alone(small_run, prompts):
    with pytest.raises(SystemExit, match=r"the classifier knows zebra, gnu, .*: no class is in both"):
        main([str(small_run), "--prompts", prompts(zebra=["zebra"], gnu=["gnu"])])
    with pytest.raises(SystemExit, match="compares classes: name two or more"):
        main([str(small_run), "--prompts", prompts(star=["star"])])


@pytest.mark.parametrize(("level", "status"), [("high", None), ("medium", FOUND), ("low", FOUND)])
def test_the_exit_status_is_asked_for(small_run, tmp_path, monkeypatch, level, status):
    from .fabricated import audit, culprit, finding, result

    found = finding(1, "star", (culprit(3, "red"),), severity="medium")
    made = audit((result("star", (1,)),), (found,))
    monkeypatch.setattr("lightning_sae.audit.audit.audit_to_folder", lambda *given: made)
    main([str(small_run)])
    if status is None:
        main([str(small_run), "--fail-on", level])
        return
    with pytest.raises(SystemExit) as stopped:
        main([str(small_run), "--fail-on", level])
    assert stopped.value.code == status


@pytest.mark.parametrize(("in_seeds", "status"), [(2, FOUND), (3, None)])
def test_findings_of_enough_seeds_alone_can_be_asked_for(small_run, monkeypatch, in_seeds, status):
    from .fabricated import audit, culprit, finding, result

    made = audit((result("star", (1,)),), (finding(1, "star", (culprit(3, "red"),), in_seeds=2),))
    others = SimpleNamespace(audits=[None] * 3)
    monkeypatch.setattr("lightning_sae.audit.audit.audit_to_folder", lambda *given: made)
    monkeypatch.setattr("lightning_sae.audit.seeds.read_other_seeds", lambda run, folders: others)
    asked = [str(small_run), "--stability", "DIR", "--fail-on", "high", "--in-seeds"]
    if status is None:
        main([*asked, str(in_seeds)])
    else:
        with pytest.raises(SystemExit) as stopped:
            main([*asked, str(in_seeds)])
        assert stopped.value.code == status
    with pytest.raises(SystemExit, match="--in-seeds 4: there are 3 seeds, this run counted"):
        main([*asked, "4"])
    with pytest.raises(SystemExit, match="name both it and --stability DIR"):
        main([str(small_run), "--in-seeds", "2"])


def test_a_label_that_is_a_number_stays_a_text(small_run, tmp_path):
    part = tmp_path / "digits"
    shutil.copytree(small_run, part)
    rows = (part / "latents.csv").read_text().splitlines()
    place = rows[0].split(",").index("label")
    cells = [row.split(",") for row in rows[1:]]
    lines = [",".join([*row[:place], "7", *row[place + 1 :]]) for row in cells]
    (part / "latents.csv").write_text("\n".join([rows[0], *lines]) + "\n")
    assert set(open_run(part).latents["label"]) == {"7"}


def test_texts_show_nothing():
    with pytest.raises(ValueError, match="audit a run on images alone"):
        check_images(SimpleNamespace(clip=SimpleNamespace(reads_texts=True)))
    joint = JointDataModule.__new__(JointDataModule)
    joint.clip = SimpleNamespace(reads_texts=False)
    with pytest.raises(ValueError, match="audit a run on images alone"):
        check_images(joint)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output": "odds"}, "output must be one of cosine, logit, margin, probability; got 'odds'"),
        ({"classifier": "probe", "prompts_file": "x.json"}, "a probe has no prompts"),
        ({"classifier": "nowhere"}, "got nowhere"),
        ({"prompts_file": "nowhere.json"}, "nowhere.json"),
    ],
)
def test_the_callback_refuses_before_the_training(arguments, message):
    with pytest.raises((ValueError, OSError), match=message):
        Audit(**arguments)


def test_the_command_finds_what_the_callback_found(train_small, tmp_path):
    folder = train_small("audited", "callbacks=[default,audit]", "callbacks.audit.min_images=2")
    audit = read_audit(folder)
    assert audit.subject.run == folder.name
    assert (folder / "audit.html").exists()
    main([str(folder), "--min-images", "2", "--out", str(tmp_path)])
    assert read_audit(tmp_path) == audit
