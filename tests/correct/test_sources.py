"""A correction at an earlier hook point, against the CLIP with its activations edited by hand there."""

import pytest
import torch

from lightning_sae.audit.findings import Finding, write_audit
from lightning_sae.audit.origins.origin import CulpritOrigin, CulpritSource
from lightning_sae.correct import Rule, correct, load_classifier, read_record, save_classifier
from lightning_sae.correct.__main__ import main
from lightning_sae.correct.embeddings import view_culprits
from lightning_sae.correct.sites import ranked_sources, sites_of, tries
from lightning_sae.correct.terminal import headline
from lightning_sae.metrics import auroc
from lightning_sae.runs.classifier import prompt_classifier
from lightning_sae.runs.earlier import earlier_layers
from lightning_sae.runs.folder import open_run
from lightning_sae.world import World

from ..audit.fabricated import audit, culprit, finding, origin, result

N_TEST = 120
ANY = Rule(*[1.0] * 4)
TWO = "hook_points=[visual.transformer.resblocks.2,visual.transformer.resblocks.3]"

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def folder(train_small):
    steps = ("trainer.max_steps=60", "trainer.val_check_interval=60")
    return train_small("sources", TWO, *steps, "data.n_val=300", f"data.n_test={N_TEST}")


@pytest.fixture(scope="module")
def run(folder):
    run = open_run(folder)
    run.data.prepare_data()
    run.data.setup("validate")
    return run


def of_factor(activations, images, n):
    """The latents that tell the brown background best."""
    values, truth = images.factors["background"]
    told = [float(auroc(a, truth == values.index("brown"))) for a in activations.T]
    return torch.tensor(told).topk(n).indices.tolist()


@pytest.fixture(scope="module")
def found(run) -> Finding:
    """The star's, with a culprit and nine sources of it."""
    names, images = run.data.class_names, run.data.images("val")
    (worst,) = of_factor(view_culprits(run, "val", range(64), names).activations, images, 1)
    early = earlier_layers(run)["resblocks.2"]
    with torch.no_grad():
        x = torch.cat([batch.earlier[0] for batch in run.data.val_dataloader()])
        sources = of_factor(early.layer.sae.encode(x).to_dense(), images, 9)
    one = culprit(worst, "brown")
    listed = tuple(
        CulpritSource(latent=j, label="br|own", named=True, share=0.1 - 0.01 * n)
        for n, j in enumerate(sources)
    )
    made = origin((one,), folder=early.folder, sae_sha256=early.sae_sha256, tokens="cls")
    traced = made.culprits[0].model_copy(update={"sources": listed})
    return finding(1, "star", (one,), origins=(made.model_copy(update={"culprits": (traced,)}),))


@pytest.fixture(scope="module")
def corrected(run, found, tmp_path_factory):
    correction = correct(run, prompt_classifier(run), found, factor="background", rule=ANY, at="resblocks.2")
    out = tmp_path_factory.mktemp("out") / "classifier"
    save_classifier(correction, out)
    return correction, out


def edited_by_hand(run, latents, pixels):
    """The embeddings with some latents of block 2 taken out of the class token."""
    sae = run.layers["resblocks.2"].sae

    def edit(_module, _inputs, output):
        x = output[:, 0]
        active = sae.encode(x).to_dense()[:, list(latents)]
        return torch.cat([(x - active @ sae.W_dec[list(latents)])[:, None], output[:, 1:]], dim=1)

    handle = run.data.clip.model.visual.transformer.resblocks[2].register_forward_hook(edit)
    with torch.no_grad():
        embeddings = run.data.clip.model.encode_image(pixels, normalize=True)
    handle.remove()
    return embeddings


def test_it_is_the_clip_with_the_sources_taken_out_there(run, found, corrected):
    correction, out = corrected
    record, loaded = read_record(out), load_classifier(out)
    assert record == correction.record
    assert record.way == "ablate"
    assert (record.held.layer, record.held.sources) == ("resblocks.2", True)
    assert record.held.hook_point == "visual.transformer.resblocks.2"
    assert record.hook_point == "visual.transformer.resblocks.3"  # where the culprits are
    assert record.held.values == (0.0,) * len(record.held.latents)
    strongest = [source.latent for source in found.origins[0].culprits[0].sources]
    assert list(record.held.latents) == strongest[: len(record.held.latents)]
    assert len(record.held.latents) in (1, 3, 8)
    world = World("biased", "test", N_TEST)
    images = [world.image(i) for i in range(N_TEST)]
    pixels = torch.stack([run.data.clip.preprocess(image) for image in images])
    by_hand = loaded.logits(edited_by_hand(run, record.held.latents, pixels))
    torch.testing.assert_close(loaded.classify(run.data.clip, images), by_hand, rtol=1e-4, atol=1e-3)
    right = float((by_hand.argmax(1) == world.targets).double().mean())
    assert record.measured.accuracy.after == pytest.approx(right, abs=2e-2)
    plain = correction.classifier.logits(run.data.clip.encode_image(pixels))
    assert not torch.allclose(plain, by_hand, atol=1e-2)


def test_the_best_on_val_is_taken_wherever_it_acts(run, found, corrected):
    classifier = prompt_classifier(run)
    early = corrected[0].record.chosen.worst.after
    only_later = found.model_copy(update={"origins": ()})
    later = correct(run, classifier, only_later, "ablate", "background", ANY).record
    both = correct(run, classifier, found, "ablate", "background", ANY).record
    assert later.held.sources is False
    assert both.chosen.worst.after == min(early, later.chosen.worst.after)
    assert both.held.sources == (early < later.chosen.worst.after)
    own = correct(run, classifier, found, "ablate", "background", ANY, at="resblocks.3").record
    assert own == later


def test_card_and_terminal_say_where_it_acts(corrected):
    correction, out = corrected
    text = (out / "card.md").read_text()
    assert "the sources of the culprits, at an earlier hook point, are ablated" in text
    first = correction.record.held.latents[0]
    assert f'acts at `visual.transformer.resblocks.2` (cls), on "br&#124;own" (latent {first})' in text
    assert headline(correction.record).startswith("star: ablate of sources at resblocks.2: ")


def test_sources_are_ranked_over_all_culprits():
    """By what they give to culprits, each of which counts as much as it drives the class."""
    two = (culprit(1, "a", share=0.6), culprit(2, "b", share=0.3))

    def traced(latent, shares):
        sources = tuple(CulpritSource(latent=j, label="", named=False, share=s) for j, s in shares.items())
        beside = {"images": 9, "latents": 1.0, "error": 0.0, "outside": 0.0, "bias": 0.0}
        return CulpritOrigin(latent=latent, sources=sources, **beside)

    both = traced(1, {7: 0.3, 8: 0.25}), traced(2, {8: 0.2, 9: 0.5})
    made = origin(two).model_copy(update={"culprits": both})
    ranked = ranked_sources(finding(1, "star", two), made)
    assert [source.latent for source in ranked] == [8, 7, 9]  # 0.21, 0.18, 0.15


def test_ways_act_where_they_can(run, found):
    sites = sites_of(run, found)
    assert [(site.layer, len(site.latents)) for site in sites] == [
        ("resblocks.3", 1),
        *(("resblocks.2", n) for n in (1, 3, 8)),
    ]
    acting = [(way, len(site.latents), site.early) for way, site in tries(("edit", "clamp", "ablate"), sites)]
    assert acting == [
        *(("edit", 1, False), ("clamp", 1, False), ("ablate", 1, False)),
        *(("ablate", n, True) for n in (1, 3, 8)),
    ]


def test_what_cannot_act(run, found):
    classifier = prompt_classifier(run)
    with pytest.raises(ValueError, match=r"nothing to hold at 'resblocks\.0': take one of resblocks\.3"):
        correct(run, classifier, found, at="resblocks.0")
    with pytest.raises(ValueError, match=r"edit holds no latents at resblocks\.2: take --way ablate"):
        correct(run, classifier, found, "edit", at="resblocks.2")
    with pytest.raises(ValueError, match=r"clamp holds no latents at resblocks\.2"):
        correct(run, classifier, found, "clamp", at="resblocks.2")
    (made,) = found.origins
    for change in ({"sae_sha256": "0" * 64}, {"hook_point": "visual.transformer.resblocks.1"}):
        other = found.model_copy(update={"origins": (made.model_copy(update=change),)})
        with pytest.raises(ValueError, match=r"layers/resblocks\.2 is not the one that the audit traced"):
            correct(run, classifier, other)
    gone = found.model_copy(update={"origins": (made.model_copy(update={"folder": "elsewhere"}),)})
    with pytest.raises(FileNotFoundError):
        correct(run, classifier, gone)


def test_the_command(folder, run, found, tmp_path):
    names = run.data.class_names
    classes = tuple(result(name, (1,) * (name == "star")) for name in names)
    write_audit(audit(classes, (found,)), folder)
    out = tmp_path / "classifier"
    loose = [f"--max-{name}=1" for name in ("loss", "group-loss", "class-loss", "false-positive-rise")]
    main([str(folder), "--finding", "1", "--out", str(out), "--at", "resblocks.2", *loose])
    assert read_record(out).held.layer == "resblocks.2"
    assert (out / "sae" / "cfg.json").is_file()
