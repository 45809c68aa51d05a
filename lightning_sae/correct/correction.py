"""From a finding to a corrected classifier: the way chosen on validation images, measured on test images."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae import __version__
from lightning_sae.audit.evidence.phrases import class_phrases
from lightning_sae.audit.findings import Finding
from lightning_sae.audit.verdict.cases import OF_THINGS
from lightning_sae.audit.verdict.sides import told_value
from lightning_sae.classifiers.classifier import Classifier
from lightning_sae.classifiers.linear import LinearClassifier
from lightning_sae.correct.choice import Choice, Choices, Rule, choose, least_damage
from lightning_sae.correct.clamp import Held
from lightning_sae.correct.corrected_classifier import HELD_WAYS, CorrectedClassifier, Way
from lightning_sae.correct.embeddings import CulpritView, view_culprits
from lightning_sae.correct.images import CULPRITS, PRINTED, CorrectionSet, groups_of, with_groups, with_word
from lightning_sae.correct.judged import JUDGE, find_look, with_look
from lightning_sae.correct.measures import Predictions, all_images, class_rows, group_rows, measured
from lightning_sae.correct.printed import strongest_style
from lightning_sae.correct.record import HeldLatents, Printed, Record
from lightning_sae.correct.refusal import refusal
from lightning_sae.correct.sites import Site, sites_of, tries
from lightning_sae.correct.strategies import (
    EDIT_WAYS,
    Corrected,
    Validation,
    WayOut,
    shifted,
    way_out,
    ways_open,
)
from lightning_sae.data.images.image_set import Split
from lightning_sae.metrics.group_errors import others_than
from lightning_sae.pairs.printing import Label
from lightning_sae.runs.folder import RunFolder

DEFAULT = Rule()


class Correction(NamedTuple):
    """A corrected classifier and what is known of it."""

    classifier: CorrectedClassifier
    record: Record


class _Attempt(NamedTuple):
    """One try of a way to correct the class.

    Attributes:
        way: name of the way.
        site: where latents are held, if the way holds any.
        spared: classes of which an edit keeps the mean score.
        out: the way at this site, with these classes spared.
        found: choices that it gives on the validation images.
    """

    way: Way
    site: Site
    spared: tuple[int, ...]
    out: WayOut
    found: Choices

    @property
    def said(self) -> str:
        """The way, and the hook point where that is an earlier one."""
        return f"{self.way} at {self.site.layer}" if self.site.early else self.way


class _Chosen(NamedTuple):
    way: Way
    site: Site
    spared: tuple[int, ...]
    out: WayOut
    corrected: Corrected
    choice: Choice


class _Task(NamedTuple):
    """A classifier to correct, and the rule for it."""

    run: RunFolder
    classes: LinearClassifier
    target: int
    latents: tuple[int, ...]
    rule: Rule
    look_alike: bool

    def ways_open(self, val: CorrectionSet) -> tuple[Way, ...]:
        """Return the ways that can be tried."""
        return ways_open(self.classes, val.seen, self.target, val.groups, self.look_alike)

    def validation(self, val: CorrectionSet) -> Validation:
        """Return the validation images as ways are chosen on them."""
        logits = self.classes.logits(val.seen.embeddings)
        return Validation(val.seen, logits, self.target, partial(val.embed, self.run))


def correct(
    run: RunFolder,
    classifier: Classifier,
    finding: Finding,
    way: Way | None = None,
    factor: str | None = None,
    rule: Rule = DEFAULT,
    at: str | None = None,
) -> Correction:
    """Correct one class of a classifier.

    Args:
        run: run that the culprits' latents belong to.
        classifier: under audit.
        finding: finding of the audit that is corrected.
        way: way to correct; `None`: the one that does least damage on the validation images among those with
            the smallest error (`least_damage`). No way is taken that a plain shift of the threshold equals.
        factor: factor whose groups the way is chosen by: `FACTOR` with all its values, `FACTOR=VALUE` against
            all others, `culprits` for the activity of the culprits, `judge` for images that look like the
            worst culprit's label to the judge, `printed` for images with the class's word printed on them
            against the same images as they are. `None`: `printed` for a typographic finding; else the value
            that the culprits tell, first among the factors of the data, then of `judge`; else `culprits`.
        rule: what the correction may cost on the validation images.
        at: short name of the one hook point at which latents are held; `None`: that of the run and, where the
            audit has traced the culprits to earlier ones, also these, at which their sources are ablated.

    Raises:
        FileNotFoundError: the autoencoder of an earlier hook point is no longer in its folder.
        ValueError: an unknown class, latent, factor or hook point, images without known classes, a limit that
            is no share, or nothing that is tried lowers the worst group's error at an allowed price.
    """
    rule.check()
    latents = tuple(culprit.latent for culprit in finding.culprits)
    target = _target(run, classifier, finding.class_name, latents)
    sites = sites_of(run, finding, at)
    task = _Task(
        run, classifier.to(torch.empty(0)), target, latents, rule, look_alike=finding.kind in OF_THINGS
    )
    names = tuple(classifier.class_names)
    look = find_look(run, finding, names)
    seen = with_look(run, "val", view_culprits(run, "val", latents, names), look)
    _check_targets(seen, target, finding.class_name)
    factor = factor or _factor(task, finding, seen)
    label = _label(task, classifier, seen) if factor == PRINTED else None

    def grouped(split: Split, images: CulpritView) -> CorrectionSet:
        if label is None:
            return with_groups(split, images, factor)
        return with_word(run, split, images, latents, label, target)

    val = grouped("val", seen)
    ways = (way,) if way else HELD_WAYS if at else task.ways_open(val)
    chosen = _choose(task, val, tries(ways, sites, at), names)
    test = grouped("test", with_look(run, "test", view_culprits(run, "test", latents, names), look))
    corrected = CorrectedClassifier(
        names,
        shifted(chosen.corrected.classes, target, chosen.choice.shift),
        run.data.clip.identity(),
        chosen.corrected.held,
    )
    return Correction(corrected, _record(task, classifier, finding, factor, chosen, corrected, val, test))


def _target(run: RunFolder, classifier: Classifier, name: str, latents: Sequence[int]) -> int:
    """Return the number of the class that is led astray."""
    if run.data.clip.reads_texts:
        raise ValueError("corrections are for classifiers of images; this run is about texts")
    if name not in classifier.class_names:
        raise ValueError(
            f"the finding is about {name!r}, which is no class of the classifier: audit the run again"
        )
    unknown = [j for j in latents if not 0 <= j < run.sae.d_sae]
    if unknown or not latents:
        raise ValueError(
            f"the finding names the latents {list(latents)}, the run has 0..{run.sae.d_sae - 1}: audit the "
            "run again"
        )
    return list(classifier.class_names).index(name)


def _check_targets(seen: CulpritView, target: int, name: str) -> None:
    own, others = int((seen.targets == target).sum()), int(others_than(seen.targets, target).sum())
    if min(own, others) == 0:
        raise ValueError(
            f"val has {own} images of {name!r} and {others} that are known to be of others, a correction is "
            "chosen on both: give the images classes, or more of them"
        )


def _factor(task: _Task, finding: Finding, seen: CulpritView) -> str:
    """Return the factor that the groups are made by if none is named."""
    if finding.kind == "typographic":
        return PRINTED
    others, activity = others_than(seen.targets, task.target), seen.activations.sum(1)
    known = {name: of for name, of in seen.factors.items() if name != JUDGE}
    for factors in (known, seen.factors):
        told = told_value(activity, others, factors, task.rule.min_group)
        if told is not None:
            return f"{told.factor}={told.value}"
    return CULPRITS


def _label(task: _Task, classifier: Classifier, seen: CulpritView) -> Label:
    """Return what the class is called, in the style that leads most validation images astray."""
    word = class_phrases(classifier.class_names, classifier.prompts)[task.target]
    return Label(word, strongest_style(task.run, "val", word, task.classes, seen.targets, task.target))


def _choose(
    task: _Task, val: CorrectionSet, tried: Sequence[tuple[Way, Site]], names: Sequence[str]
) -> _Chosen:
    """Return the best of the ways and sites on the validation images."""
    attempts = [attempt for way, site in tried for attempt in _attempts(task, val, way, site)]
    chosen = [
        _Chosen(attempt.way, attempt.site, attempt.spared, attempt.out, attempt.out.make(best.amount), best)
        for attempt in attempts
        if (best := attempt.found.best) is not None
    ]
    if not chosen:
        raise ValueError(refusal(val.groups.name, [(a.said, a.found) for a in attempts], names))
    best = least_damage([one.choice for one in chosen])
    return next(one for one in chosen if one.choice is best)


def _attempts(task: _Task, val: CorrectionSet, way: Way, site: Site) -> Iterator[_Attempt]:
    """Yield the tries of a way; an edit is tried again with each class spared that it costs too much."""
    spared: tuple[int, ...] = ()
    images = task.validation(val)
    while True:
        out = way_out(way, task.classes, task.target, val.seen, site, val.groups, spared, task.look_alike)
        tried = images.candidates(out)
        found = choose(tried, images.as_it_is, val.seen.targets, task.target, val.groups, task.rule)
        yield _Attempt(way, site, spared, out, found)
        dear = found.refused.get(("max_class_loss",))
        if way not in EDIT_WAYS or dear is None or dear.costs.loser in (task.target, *spared):
            return
        spared = (*spared, dear.costs.loser)


def _plain_shift(task: _Task, val: CorrectionSet, site: Site) -> float:
    """Return the best shift of the class's logit and nothing else, by the same rule; 0 where none helps."""
    best = next(_attempts(task, val, "shift", site)).found.best
    return 0.0 if best is None else best.shift


def _predicted_of_val(task: _Task, val: CorrectionSet, chosen: _Chosen) -> Tensor:
    """Return the class of each validation image by the chosen correction, `[n]` int64."""
    logits = task.validation(val).logits(chosen.out, chosen.choice.amount)
    logits[:, task.target] += chosen.choice.shift
    return logits.argmax(1)


def _predictions(task: _Task, images: CorrectionSet, after: Tensor, plain_shift: float) -> Predictions:
    plain = shifted(task.classes, task.target, plain_shift)
    return Predictions(
        before=task.classes.predict(images.seen.embeddings),
        after=after,
        shifted=plain.predict(images.seen.embeddings),
    )


def _held_latents(site: Site, held: Held) -> HeldLatents:
    """Return what is held, and where."""
    return HeldLatents(
        layer=site.layer,
        hook_point=site.hook_point.module,
        tokens=site.hook_point.tokens,
        sources=site.early,
        latents=site.latents,
        labels=tuple(name.label for name in site.names),
        named=tuple(name.named for name in site.names),
        values=tuple(held.clamp.values),
    )


def _record(
    task: _Task,
    classifier: Classifier,
    finding: Finding,
    factor: str,
    chosen: _Chosen,
    corrected: CorrectedClassifier,
    val: CorrectionSet,
    test: CorrectionSet,
) -> Record:
    run, held, targets = task.run, chosen.corrected.held, test.data.targets
    shift = _plain_shift(task, val, chosen.site)
    on_val = _predictions(task, val, _predicted_of_val(task, val, chosen), shift)
    on_test = _predictions(task, test, corrected.classes.predict(test.embed(run, held)), shift)
    of_data = Predictions(*map(test.groups.of_data, on_test))
    names = [name for name in (*test.data.factors, CULPRITS) if name not in ("class", factor)]
    factors = [groups_of(test.data, name) for name in names]
    target, min_group = task.target, task.rule.min_group
    rows = [
        *group_rows(of_data, targets, target, [all_images(len(targets))], min_group),
        *group_rows(on_test, test.seen.targets, target, [test.groups._replace(name=factor)], min_group),
        *group_rows(of_data, targets, target, factors, min_group),
    ]
    return Record(
        library_version=__version__,
        kind=classifier.kind,
        class_names=tuple(classifier.class_names),
        clip=run.data.clip.identity(),
        hook_point=run.data.hook.module,
        tokens=run.data.hook.tokens,
        run=run.folder.resolve().name,
        data=str(run.data.images("val").identity().get("name", "")),
        finding=finding.number,
        finding_kind=finding.kind,
        summary=finding.summary,
        target=finding.class_name,
        way=chosen.way,
        spared=tuple(classifier.class_names[c] for c in chosen.spared),
        latents=task.latents,
        labels=tuple(culprit.label for culprit in finding.culprits),
        named=tuple(culprit.named for culprit in finding.culprits),
        held=None if held is None else _held_latents(chosen.site, held),
        amount=chosen.choice.amount,
        shift=chosen.choice.shift,
        plain_shift=shift,
        factor=factor,
        printed=None if val.label is None else Printed(word=val.label.word, **val.label.style._asdict()),
        **task.rule._asdict(),
        chosen=measured("val", on_val, val.seen.targets, target, val.groups, min_group),
        measured=measured("test", on_test, test.seen.targets, target, test.groups, min_group),
        groups=tuple(rows),
        classes=tuple(class_rows(of_data, targets, classifier.class_names)),
    )
