"""Where culprits come from: known wires, shared sources, names, and an audit of two hook points."""

import json
import shutil
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from rich.console import Console

from benchmarks.wired import EARLY, FIRST, LATE, SECOND, wired
from lightning_sae.attribution.edges.ablation import ablate_to_latents
from lightning_sae.attribution.edges.layers import look
from lightning_sae.attribution.edges.targets import LatentTargets
from lightning_sae.audit import read_audit, write_audit
from lightning_sae.audit.__main__ import main
from lightning_sae.audit.evidence.evidence_pass import ready
from lightning_sae.audit.origins import arriving as arriving_module
from lightning_sae.audit.origins.arriving import arriving
from lightning_sae.audit.origins.sharing import compare, overlaps
from lightning_sae.audit.origins.trace import LayerTrace, checked_layers
from lightning_sae.audit.origins.words import summarise_origin
from lightning_sae.audit.terminal import print_audit
from lightning_sae.concepts.naming import LatentName, names_of
from lightning_sae.runs.earlier import EarlierLayer
from lightning_sae.runs.folder import open_run
from lightning_sae.runs.layer_names import layer_names
from lightning_sae.runs.layers import RunLayer

from .fabricated import audit, culprit, finding, origin, result
from .imagined import seen as imagined_split
from .imagined import subjects

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning"), pytest.mark.usefixtures("few_drawn_words")]
N = 48
TWO = "hook_points=[visual.transformer.resblocks.2,visual.transformer.resblocks.3]"


@pytest.fixture(scope="module")
def model():
    return wired(n=N)


@pytest.fixture
def wired_run(model, monkeypatch):
    """A run on the wired model, and its earlier hook point."""
    early, own = model.layers
    data = SimpleNamespace(clip=model.clip, hook=SECOND, earlier={})
    monkeypatch.setattr(arriving_module, "_pixels", lambda run, ids: model.inputs[ids])
    return SimpleNamespace(data=data, sae=own.sae), RunLayer(FIRST, early.sae, pd.DataFrame())


def strongest(found, n):
    return {EARLY[i] for i in found.latents.topk(n).indices.tolist()}


def test_the_wires_arrive(wired_run):
    run, early = wired_run
    wanted = {name: LATE.index(name) for name in ("a and b", "c or d", "e but f", "g seen", "dark copied")}
    found = arriving(run, early, torch.arange(N), list(wanted.values()))
    assert strongest(found[wanted["a and b"]], 2) == {"a", "b"}
    assert strongest(found[wanted["e but f"]], 1) == {"e"}
    assert EARLY[int(found[wanted["e but f"]].latents.argmin())] == "f"  # holds it down
    assert strongest(found[wanted["g seen"]], 1) == {"g"}
    dark = found[wanted["dark copied"]]
    assert float(dark.beside[0]) > 10 * float(dark.latents.abs().sum())  # the autoencoder does not know it


def test_what_arrives_is_the_mean_over_the_images_on_which_the_latent_is_active(wired_run, model):
    """A latent that alone makes another is what its exact removal takes away."""
    run, early = wired_run
    g, seen_g = EARLY.index("g"), LATE.index("g seen")
    found = arriving(run, early, torch.arange(N), [seen_g])[seen_g]
    seen = look(model.clip, model.layers, model.inputs)
    targets = LatentTargets(seen[1], torch.arange(len(LATE)) == seen_g)
    truth = ablate_to_latents(seen[0], targets)
    taken = truth.value[truth.source == g].sum() / len(targets)
    assert found.images == len(targets) < N
    assert float(found.latents[g]) == pytest.approx(float(taken), rel=0.5)  # attention is no linear map
    assert found.profile.sum() == pytest.approx(1)
    assert found.profile.argmax() == g


def test_a_silent_latent_has_no_origin(wired_run):
    run, early = wired_run
    both = LATE.index("a and b")
    active = arriving(run, early, torch.arange(N), [both])[both].images
    silent = [i for i in range(N) if both not in arriving(run, early, torch.tensor([i]), [both])]
    assert len(silent) == N - active > 0


def trace_of(wired_run, own):
    """A trace in which every latent has all images; class 0 is driven by `own` on all of them."""
    run, early = wired_run
    tops = torch.arange(N).repeat(len(LATE), 1)
    drive = torch.zeros(N, len(LATE))
    drive[:, own] = 1.0
    split = imagined_split(torch.zeros(N, dtype=torch.int64), drive)
    found = SimpleNamespace(
        seen=split, subjects=subjects(["star"], [0] * N), judged=SimpleNamespace(top_ids=tops)
    )
    trace = LayerTrace(run, found, "resblocks.0", EarlierLayer(early, "layers/resblocks.0", "0" * 64))
    trace.names = [LatentName(name, True) for name in EARLY]
    return trace


def test_the_origin_of_a_culprit(wired_run):
    both = LATE.index("a and b")
    trace = trace_of(wired_run, [LATE.index("c or d")])
    found = trace.origin(0, [culprit(both, "brown")], torch.arange(N))
    (traced,) = found.culprits
    assert {source.label for source in traced.sources[:2]} == {"a", "b"}
    assert traced.latents + traced.error + traced.outside + traced.bias == pytest.approx(1)
    assert traced.leak == traced.error + traced.outside < 0.1
    assert [source.share for source in traced.sources] == sorted(
        (source.share for source in traced.sources), reverse=True
    )
    assert found.summary.startswith('"brown" (latent 10) at resblocks.1 comes from "')
    assert (found.layer, found.hook_point, found.tokens) == ("resblocks.0", FIRST.module, "all")
    assert found.shared is None  # 16 latents are too few to compare with


def test_shared_sources_are_told_from_those_that_any_latent_has():
    generator = torch.Generator().manual_seed(0)
    random = torch.rand(64, 40, generator=generator)
    random = random / random.sum(1, keepdim=True)
    mine = torch.zeros(40)
    mine[:2] = 0.5
    same, other = compare(mine, mine[None].repeat(2, 1), random), compare(mine, random[:1], random)
    assert (same.value, same.p_value) == (pytest.approx(1), pytest.approx(1 / 1001))
    assert same.random < same.high < 0.2
    assert other.p_value > 0.01
    assert float(overlaps(mine, random[:1])[0]) == pytest.approx(float(random[0, :2].clamp(max=0.5).sum()))


def test_the_overlap_test_keeps_its_level():
    """Where the class's own latents are random ones, one in twenty shares more than `high`."""
    generator = torch.Generator().manual_seed(1)
    low = 0
    for _ in range(200):
        profiles = torch.rand(67, 30, generator=generator) ** 3
        profiles = profiles / profiles.sum(1, keepdim=True)
        low += compare(profiles[0], profiles[1:3], profiles[3:]).p_value <= 0.05
    assert 2 <= low <= 20  # 10 are expected, with a spread of 3


def test_words():
    one = culprit(3, "brown")
    traced = origin((one,)).culprits
    said = summarise_origin("resblocks.2", "resblocks.3", [one], traced, None)
    assert said == (
        '"brown" (latent 3) at resblocks.3 comes from "edges" (latent 5) at resblocks.2: 41 % of what '
        "arrives at it; 12 % comes from what no latent there explains."
    )
    leaking = (traced[0].model_copy(update={"outside": 0.6}),)
    assert "67 % comes from what no latent there explains, more than half" in summarise_origin(
        "resblocks.2", "resblocks.3", [one], leaking, None
    )
    assert "no latent at resblocks.2 makes" in summarise_origin("resblocks.2", "resblocks.3", [one], (), None)
    assert "It does not share sources with the latents of the class itself more than random latents do (" in (
        origin((one,)).summary
    )


def test_what_is_written_is_read_and_printed(tmp_path):
    one = culprit(3, "[bold]brown")
    made = finding(1, "star", (one,), origins=(origin((one,), "[red]edges"),))
    whole = audit((result("star", (1,)),), (made,))
    write_audit(whole, tmp_path)
    assert read_audit(tmp_path) == whole
    told = StringIO()
    print_audit(Console(file=told, width=80), whole, tmp_path)
    assert '"[red]edges" (latent 5) at resblocks.2' in " ".join(told.getvalue().split())


@pytest.fixture(scope="module")
def folder(train_small):
    """Two hook points, with an autoencoder that has learned the brown background."""
    steps = ("trainer.max_steps=150", "trainer.val_check_interval=150")
    return train_small("two", TWO, *steps, "data.n_val=400", "data.n_train=256")


@pytest.fixture(scope="module")
def run(folder):
    run = open_run(folder)
    ready(run)
    return run


def test_sources_are_named_as_the_run_names_its_own_latents(run):
    """By the rule of the callback that has labelled those of the last hook point."""
    names = names_of(run.latents.reindex(range(run.sae.d_sae)))
    layer = RunLayer(run.data.hook, run.sae, run.latents[["density", "top_images"]])
    assert layer_names(_with_own_as_earlier(run), "resblocks.3", layer) == names
    assert layer_names(run, "resblocks.3", RunLayer(run.data.hook, run.sae, run.latents)) == names


def _with_own_as_earlier(run):
    """The same run, whose earlier hook point is its own."""
    data = run.data

    class Data:
        def __init__(self):
            self.earlier = {"resblocks.3": None}

        def __getattr__(self, name):
            return getattr(data, name)

        def val_dataloader(self):
            return (batch._replace(earlier=(batch.x,)) for batch in data.val_dataloader())

    return SimpleNamespace(data=Data(), vocabulary=run.vocabulary, config=run.config)


def test_an_audit_of_two_hook_points(folder, tmp_path, capsys):
    main([str(folder), "--out", str(tmp_path)])
    found = read_audit(tmp_path)
    assert found.findings
    for one in found.findings:
        (at,) = one.origins
        assert (at.layer, at.tokens, at.folder) == ("resblocks.2", "cls", "layers/resblocks.2")
        assert {traced.latent for traced in at.culprits} <= {culprit.latent for culprit in one.culprits}
        for traced in at.culprits:
            whole = traced.latents + traced.error + traced.outside + traced.bias
            assert whole == pytest.approx(1)
            assert 0 < sum(source.share for source in traced.sources) <= traced.latents + 1e-9
            assert 0 < traced.images <= one.images
    page = (tmp_path / "audit.html").read_text()
    assert page.count("Where they come from") == len(found.findings)
    assert "at resblocks.2" in " ".join(capsys.readouterr().out.split())


def test_a_run_of_its_own_is_an_earlier_hook_point(run, train_small, tmp_path):
    other = train_small("all", "hook_point=visual.transformer.resblocks.1", "tokens=all")
    layers = checked_layers(run, [other])
    assert [*layers] == ["resblocks.2", "resblocks.1"]
    early = layers["resblocks.1"]
    assert str(early.layer.hook_point) == "visual.transformer.resblocks.1:all"
    assert early.folder == str(other.resolve())
    names = layer_names(run, "resblocks.1", early.layer)
    labelled = pd.read_csv(other / "latents.csv", keep_default_na=False).set_index("latent")
    assert [names[j].label for j in labelled.index] == labelled["label"].tolist()


def test_what_is_no_earlier_hook_point(run, folder, small_run, small_patch_run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cfg\.json"):
        checked_layers(run, [tmp_path])
    with pytest.raises(ValueError, match=r"resblocks\.3 has two autoencoders"):
        checked_layers(run, [small_run])
    middle = open_run(small_patch_run)
    ready(middle)
    with pytest.raises(ValueError, match=r"resblocks\.1"):
        checked_layers(middle, [small_run])  # it comes later
    copy = Path(shutil.copytree(small_patch_run, tmp_path / "other"))
    card = json.loads((copy / "sae" / "cfg.json").read_text())
    card["provenance"]["clip"]["weights"] = "0" * 64
    (copy / "sae" / "cfg.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match="another CLIP"):
        checked_layers(run, [copy])


def test_one_hook_point_has_no_origins(small_run):
    run = open_run(small_run)
    assert checked_layers(run) == {}
