"""The audit of a run: looks, tests, measures effects, and puts findings in order of severity."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor

from lightning_sae import __version__
from lightning_sae.attribution.reliance import unexpected_reliance
from lightning_sae.audit.advice import EXPORT, advise, summarise
from lightning_sae.audit.estimate import Estimate
from lightning_sae.audit.evidence.cues import Cues
from lightning_sae.audit.evidence.evidence_pass import ready
from lightning_sae.audit.evidence.gaps import Gap
from lightning_sae.audit.evidence.ranking import Ranking
from lightning_sae.audit.evidence.removal import BootstrapEstimate
from lightning_sae.audit.examination import Examined, Options, Studied, examine
from lightning_sae.audit.findings import (
    SEVERITIES,
    Audit,
    ClassResult,
    Culprit,
    Finding,
    GroupGap,
    Kind,
    Subject,
    Verdict,
    severity_of,
    write_audit,
)
from lightning_sae.audit.origins.trace import LayerTrace, checked_layers
from lightning_sae.audit.paired import pair_evidence, pair_views
from lightning_sae.audit.report import write_report
from lightning_sae.audit.seeds import OtherSeeds
from lightning_sae.audit.untold import suspects_left, untold
from lightning_sae.audit.verdict.cases import OF_THINGS, Suspect, driven_images
from lightning_sae.audit.verdict.pair_effects import Cause, PairEffect, effects_on_pairs
from lightning_sae.audit.verdict.severity import RemovalEffect, measure
from lightning_sae.classifiers.classifier import Classifier
from lightning_sae.clip import clip_titles
from lightning_sae.metrics.accuracy import accuracy
from lightning_sae.pairs.responses import activation_scale
from lightning_sae.runs.classifier import check_choice, chosen_classifier, kept_probe, prompt_classifier
from lightning_sae.runs.earlier import EarlierLayer
from lightning_sae.runs.folder import RunFolder

KINDS: tuple[Kind, ...] = get_args(Kind)
EXAMPLES = 8  # images of a culprit


def audit_to_folder(
    run: RunFolder,
    folder: Path,
    classifier: str = "prompts",
    prompts_file: str | None = None,
    options: Options | None = None,
    others: OtherSeeds | None = None,
) -> Audit:
    """Audit a run, and write `audit.html`, `audit.json` and, where one is fitted, the probe.

    Args:
        run: run from `open_run`; activations that its store lacks are captured.
        folder: folder to write to.
        classifier: `prompts`, `probe`, or the folder of a saved probe.
        prompts_file: JSON or YAML, `{class: [prompt, ...]}`, for `prompts`.
        options: settings of the audit.
        others: other seeds of the run's recipe, in which its findings are looked for.

    Raises:
        ValueError: a run on texts, what `chosen_classifier` refuses, or others that were audited otherwise.
    """
    options = options or Options()
    check_choice(classifier, prompts_file)
    ready(run)
    if classifier == "probe":
        chosen = kept_probe(run, folder)
    else:
        chosen = chosen_classifier(run, classifier, prompts_file)
    audit = audit_run(run, chosen, options)
    if others is not None:
        audit = others.count_seeds(audit)
    folder.mkdir(parents=True, exist_ok=True)
    write_report(audit, run, folder, chosen, options.output)
    write_audit(audit, folder)
    return audit


def audit_run(run: RunFolder, classifier: Classifier | None = None, options: Options | None = None) -> Audit:
    """Audit the classifier of a run.

    Args:
        run: `ready`.
        classifier: under audit; `None`: the run's own zero-shot classifier.
        options: how.

    Raises:
        ValueError: the classifier has none of the classes of the data, or `checked_layers` refuses an earlier
            hook point.
    """
    options, classifier = options or Options(), classifier or prompt_classifier(run)
    layers = checked_layers(run, options.earlier)
    return audit_examined(run, classifier, options, examine(run, classifier, options), layers)


def audit_examined(
    run: RunFolder,
    classifier: Classifier,
    options: Options,
    found: Examined,
    layers: Mapping[str, EarlierLayer] = MappingProxyType({}),
) -> Audit:
    """Return the audit of a classifier that has been examined.

    Args:
        run: `ready`.
        classifier: under audit.
        options: how.
        found: what `examine` returned for this run, classifier and options.
        layers: earlier hook points that culprits are traced back to, as `checked_layers` returns them; by
            default none.
    """
    traces = [LayerTrace(run, found, name, layer) for name, layer in layers.items()]
    made = _findings(run, classifier, options, found, traces)
    return Audit(
        library_version=__version__,
        subject=_subject(run, classifier, options, found),
        classes=_classes(classifier, options, found, made),
        findings=tuple(finding for _, finding in made),
    )


class _Latent(NamedTuple):
    """A culprit with its score and the cause that it carries."""

    number: int
    score: float
    suspect: Suspect
    net: BootstrapEstimate


class _Draft(NamedTuple):
    """A class, a kind and a known cue with the culprits, the worst first."""

    studied: Studied
    kind: Kind
    culprits: list[_Latent]

    @property
    def culprit(self) -> Suspect:
        """All culprits as one suspect, with the cue of the worst of them."""
        latents, scores = zip(*((latent.number, latent.score) for latent in self.culprits), strict=True)
        return self.culprits[0].suspect._replace(latents=latents, scores=scores)


def _drafts(studied: Studied, most: int) -> list[_Draft]:
    """Return the drafts of the findings of a class, one for each kind and known cue of its culprits."""
    latents: dict[tuple[Kind, str], list[_Latent]] = {}
    for kind in KINDS:
        for one in studied.convicted(kind):
            mine = latents.setdefault((kind, one.sample.sides.name), [])
            for j, score, net in zip(one.suspect.latents, one.suspect.scores, one.each, strict=True):
                if j in one.culprits.latents:
                    mine.append(_Latent(j, score, one.suspect, net))
    return [
        _Draft(studied, kind, sorted(some, key=lambda latent: -latent.score)[:most])
        for (kind, _), some in latents.items()
        if some
    ]


def _findings(
    run: RunFolder,
    classifier: Classifier,
    options: Options,
    found: Examined,
    traces: Sequence[LayerTrace],
) -> list[tuple[int, Finding]]:
    """Return the findings whose harm is certain, each with the number of its class, as names can repeat."""
    drafts = [draft for studied in found.studied for draft in _drafts(studied, options.limits.culprits)]
    scores = classifier.scores(options.output)
    culprits = [draft.culprit for draft in drafts]
    factors = dict(run.data.images("val").factors)
    measured = measure(scores, found.seen, found.subjects, factors, culprits, options.min_group)
    certain = [both for both in zip(drafts, measured, strict=True) if both[1].harm.share.low > 0]
    effects = _on_pairs(run, classifier, options, found, certain)
    made = [
        (draft.studied.c, _finding(classifier, found, draft, one, effect, traces))
        for (draft, one), effect in zip(certain, effects, strict=True)
    ]
    # shares that differ only by rounding keep the order of the classes, which is the same on any device
    made.sort(key=lambda pair: (-SEVERITIES.index(pair[1].severity), -round(pair[1].harm.value, 4)))
    return [
        (c, finding.model_copy(update={"number": n, "advice": (*finding.advice, EXPORT.format(number=n))}))
        for n, (c, finding) in enumerate(made, 1)
    ]


def _on_pairs(
    run: RunFolder,
    classifier: Classifier,
    options: Options,
    found: Examined,
    drafts: Sequence[tuple[_Draft, RemovalEffect]],
) -> list[PairEffect | None]:
    """Return the effect of the culprits of each draft on pairs that differ in the cue alone."""
    words = list(dict.fromkeys(draft.studied.phrase for draft, _ in drafts))
    views = pair_views(run, words, options.edits) if drafts else []
    causes = [
        Cause(c, found.subjects.of_class[c], draft.culprit.latents, measured.effect.cue)
        for draft, measured in drafts
        for c in [draft.studied.c]
    ]
    scores, scale = classifier.scores(options.output), activation_scale(found.seen.latents)
    return effects_on_pairs(scores, views, scale, causes, options.min_group)


def _finding(
    classifier: Classifier,
    found: Examined,
    draft: _Draft,
    measured: RemovalEffect,
    on_pairs: PairEffect | None,
    traces: Sequence[LayerTrace],
) -> Finding:
    studied, kind, worst = draft.studied, draft.kind, draft.culprits[0]
    cue, decided = worst.suspect.cue, worst.suspect.decided
    ranking = studied.rankings[studied.cues.index(cue)]
    name = classifier.class_names[studied.c]
    culprits = tuple(_culprit(found, studied.c, latent, cue, ranking) for latent in draft.culprits)
    things = [found.subjects.names[cue.thing]] if kind in OF_THINGS else []
    images, over = _over(found, cue, things)
    return Finding(
        number=0,
        class_name=name,
        kind=kind,
        severity=severity_of(measured.harm.share.value),
        harm=Estimate.of(measured.harm.share),
        harm_of=measured.harm.of,
        confidence=decided.confidence,
        share=min(1.0, sum(culprit.share for culprit in culprits)),
        images=len(images),
        over=over,
        culprits=culprits,
        evidence=decided.evidence,
        effect=measured.effect,
        summary=summarise(name, kind, studied.phrase, culprits, things, cue.group.name if cue.group else ""),
        advice=advise(name, kind, studied.phrase, things, classifier.kind),
        standing="shown" if on_pairs and on_pairs.shown else "inferred",
        pairs=pair_evidence(on_pairs),
        origins=tuple(trace.origin(studied.c, culprits, images) for trace in traces),
    )


def _over(found: Examined, cue: Cues, things: Sequence[str]) -> tuple[Tensor, str]:
    """Return the ids of the images that the culprits' attribution is a mean over, and what these show."""
    attributed, predicted = found.seen.attributed, found.seen.predicted
    if things:
        shown, said = (found.subjects.subject == cue.thing).to(attributed.device), f'images of "{things[0]}"'
    elif cue.by_errors:
        where = f" with {cue.group.name}" if cue.group else ""
        shown, said = cue.errors, f"wrong predictions{where}"
    else:
        shown, said = predicted == cue.c, "images predicted as it"
    return attributed[shown[attributed]].cpu(), said


def _culprit(found: Examined, c: int, latent: _Latent, cue: Cues, ranking: Ranking) -> Culprit:
    judged, j = found.judged, latent.number
    meaning = judged.meaning
    return Culprit(
        latent=j,
        label=judged.labels[j],
        named=judged.named[j],
        alignment=_known(judged.label_alignment[j]) or 0.0,
        p_value=_known(judged.p[j]),
        agreement=_known(meaning.agreement[j, c]) or 0.0,
        p_random=_known(meaning.p_random[j, c]),
        p_class=_known(meaning.p_class[j, c]),
        net=None if math.isnan(latent.net.value) else Estimate.of(latent.net),
        attribution=float(ranking.attribution[j]),
        share=float(ranking.share[j]),
        score=latent.score,
        examples=tuple(driven_images(found.seen, cue, j, EXAMPLES)),
        top_images=tuple(i for i in judged.top_ids[j, :EXAMPLES].tolist() if i >= 0),
    )


def _known(value: Tensor) -> float | None:
    return None if bool(value.isnan()) else float(value)


def _classes(
    classifier: Classifier, options: Options, found: Examined, made: Sequence[tuple[int, Finding]]
) -> tuple[ClassResult, ...]:
    prompts = classifier.prompts or [()] * len(classifier.class_names)
    meaning, limits = found.judged.meaning, options.limits
    predicted = found.seen.predicted[found.seen.attributed]
    means = found.seen.attributions.class_means(predicted, len(classifier.class_names)).cpu()
    counts = torch.tensor([studied.cues[0].images for studied in found.studied])
    shares = unexpected_reliance(means.nan_to_num(), counts, meaning.foreign, limits.min_images).share
    results = []
    for studied, name, group in zip(found.studied, classifier.class_names, prompts, strict=True):
        c, mine = studied.c, tuple(finding.number for c, finding in made if c == studied.c)
        enough = studied.cues[0].images >= limits.min_images
        reason = untold(found, studied, means[c].nan_to_num(), options) if enough and not mine else ""
        verdict: Verdict = "findings" if mine else "no findings" if enough else "not enough evidence"
        shown = found.subjects.show(c) & found.subjects.known
        right = (found.seen.predicted.cpu() == c)[shown]
        results.append(
            ClassResult(
                name=name,
                prompts=tuple(group),
                verdict="cannot be told" if reason else verdict,
                reason=reason,
                images=studied.cues[0].images,
                accuracy=float(right.float().mean()) if len(right) else None,
                told=_known(meaning.told[c]),
                unexpected_share=_known(shares[c]),
                findings=mine,
                suspects=suspects_left(found, studied, means[c].nan_to_num(), limits),
                gaps=tuple(_gap(gap) for gap in studied.gaps),
            )
        )
    return tuple(results)


def _gap(gap: Gap) -> GroupGap:
    return GroupGap(
        group=gap.name,
        measure=gap.measure,
        images=gap.images,
        share=gap.share,
        elsewhere=gap.elsewhere,
        gap=Estimate.of(gap.gap),
        p_value=gap.p,
    )


def _subject(run: RunFolder, classifier: Classifier, options: Options, found: Examined) -> Subject:
    data = run.data
    targets = found.subjects.targets
    own = torch.where(targets < len(classifier.class_names), targets, -1)
    right = accuracy(found.seen.predicted.cpu(), own)
    clip, judge = clip_titles(data.clip, data.judge)
    return Subject(
        run=run.folder.resolve().name,
        clip=clip,
        hook_point=data.hook.module,
        tokens=data.hook.tokens,
        classifier=classifier.kind,
        classifier_source=classifier.source,
        output=str(options.output),
        judge=judge,
        judge_independent=data.judge_independent,
        data=_data_name(data.images("val").identity()),
        images=len(found.seen.predicted),
        accuracy=None if math.isnan(right) else right,
        fvu=found.seen.fvu if math.isfinite(found.seen.fvu) else None,
        sae_sha256=run.sae_sha256,
    )


def _data_name(identity: dict[str, Any]) -> str:
    return str(identity.get("name", "images"))
