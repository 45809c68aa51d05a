"""Findings as sentences, and on a terminal of 80 columns."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from lightning_sae.audit.advice import advise, summarise
from lightning_sae.audit.findings import Effect
from lightning_sae.audit.terminal import print_audit

from .fabricated import audit, culprit, finding, result


@pytest.mark.parametrize(
    ("labels", "who"),
    [
        (["brown"], '"brown" (latent 0) drives it where it is wrong, and its images'),
        ([""], "? (latent 0) drives it where it is wrong, and its images"),
        (
            ["brown", "gray"],
            '"brown" (latent 0) and "gray" (latent 1) drive it where it is wrong, and their images',
        ),
        (list("abcd"), '"a" (latent 0), "b" (latent 1) and "c" (latent 2) drive it'),
    ],
)
def test_spurious(labels, who):
    culprits = [culprit(j, label) for j, label in enumerate(labels)]
    assert who in summarise("star", "spurious", "star", culprits, ["dog"] * len(labels))


def test_a_label_that_is_no_name_is_a_guess():
    culprits = [culprit(7, "jaguar", named=False), culprit(8, "brown")]
    assert summarise("star", "spurious", "star", culprits, []) == (
        '"star" relies on something else: ? (jaguar, latent 7) and "brown" (latent 8) drive it where it '
        "is wrong, and their images do not look like it."
    )
    assert summarise("star", "spurious", "star", culprits[1:], [], "background=brown") == (
        '"star" relies on something else: "brown" (latent 8) drives it on images with background=brown.'
    )


@pytest.mark.parametrize("kind", ["polysemous", "compound"])
def test_the_other_things_are_named(kind):
    culprits = [culprit(1, "x"), culprit(2, "y")]
    said = summarise("flower", kind, "sun flower", culprits, ["sun", "moon"])
    assert 'latents 1 and 2 drive it on images of "sun" and "moon".' in said
    for classifier in ("prompts", "probe"):
        data, change = advise("flower", kind, "sun flower", ["sun", "moon"], classifier)
        assert '"sun" and "moon"' in data
        assert '"sun" and "moon"' in change


@pytest.mark.parametrize("kind", ["spurious", "typographic", "polysemous", "compound"])
def test_advice_is_for_the_classifier_at_hand(kind):
    prompts, probe = (
        advise("star", kind, "star", ["dog"], classifier) for classifier in ("prompts", "probe")
    )
    assert prompts[0] == probe[0]
    assert "Fit the probe anew" in probe[1]
    assert "probe" not in prompts[1]


def printed(found, width=80):
    console = Console(width=width, record=True, file=StringIO())
    print_audit(console, found, Path("/a/run/folder"))
    return console.export_text()


def test_a_terminal_of_80_columns():
    names = ["star", "a class of [bold]many[/bold] words whose name is longer than any terminal is wide, 'x'"]
    found = [finding(n, name, (culprit(n, "[red]label[/red]"),)) for n, name in enumerate(names, 1)]
    thin = [result(f"thin {n}", verdict="not enough evidence") for n in range(12)]
    said = printed(audit((*(result(name, (n,)) for n, name in enumerate(names, 1)), *thin), tuple(found)))
    lines = said.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in said
    assert "[bold]many[/bold]" in said
    assert "[red]label[/red]" in said
    assert "high spurious: star" in said
    whole = " ".join(said.split())
    assert "harm 24.0% (21.0% to 27.0%) of other images with background=brown that are taken for it" in whole
    assert "; ablated: all false positives 10.1% -> 0.5%, accuracy on the class 56% -> 56%" in whole
    assert "not enough evidence: thin 0, " in said
    assert "thin 9, ..." in whole
    assert lines[-1] == "2 findings (2 high) in 14 classes: /a/run/folder/audit.html"


def test_nothing_found_and_nobody_asked():
    said = printed(audit((result("star"),), judge_independent=False))
    assert said.splitlines() == [
        "the audited CLIP, world ViT, weights biased, judged its own latents: a bias of ",
        "its own can stay hidden",
        "one seed: nothing is known about recurrence; -m experiment=stability",
        "0 findings in 1 class: /a/run/folder/audit.html",
    ]


def test_why_nothing_can_be_told_is_said_once():
    why = result("star", verdict="cannot be told", reason="collect [more]")
    said = printed(audit((why, why.model_copy(update={"name": "moon"}))), width=200)
    assert said.splitlines()[0] == "cannot be told (collect [more]): star, moon"


def test_a_finding_without_a_measured_effect():
    found = finding(1, "star", (culprit(1, ""),), effect=Effect())
    said = " ".join(printed(audit((), (found,))).split())
    assert "that are taken for it audited: " in said
    assert "ablated" not in said


def test_names_do_not_steer_the_terminal():
    evil, seen = "\x1b[2Jcat\r\x07", r"\x1b[2Jcat\r\x07"
    classes = result(evil, (1,)), result(evil, verdict="not enough evidence")
    found = audit(classes, (finding(1, evil, (culprit(1, evil),)),))
    said = printed(found, width=400)
    assert said.count(seen) >= 3
    assert not {"\x1b", "\r", "\x07"} & {*said}


def test_in_how_many_seeds_a_finding_is():
    found = audit((result("star", (1,)),), (finding(1, "star", (culprit(3, "red"),), in_seeds=4),))
    said = printed(found.model_copy(update={"seeds": 5}))
    assert "high spurious: star (4 of 5 seeds)" in said
    assert "one seed" not in said
