"""The audit of a run: looks, tests, measures effects, and puts findings in order of severity."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from lightning_sae import __version__
from lightning_sae.audit.advice import EXPORT, advise, summarise
from lightning_sae.audit.cases import OF_THINGS, CulpritLatent, driven_images
from lightning_sae.audit.choice import check_choice, chosen_classifier, prompt_classifier
from lightning_sae.audit.classifier import Classifier
from lightning_sae.audit.effect import finding_effects, severity
from lightning_sae.audit.examined import Examined, Options, Studied, examine
from lightning_sae.audit.findings import (
    SEVERITIES,
    Audit,
    ClassResult,
    Culprit,
    Effect,
    Finding,
    Kind,
    Subject,
    Verdict,
    write_audit,
)
from lightning_sae.audit.report import write_report
from lightning_sae.audit.seen import ready
from lightning_sae.effects import Removal
from lightning_sae.run_folder import RunFolder
from lightning_sae.zero_shot import accuracy

KINDS: tuple[Kind, ...] = get_args(Kind)
EXAMPLES = 8  # images of a culprit


def audit_to_folder(
    run: RunFolder,
    folder: Path,
    classifier: str = "prompts",
    prompts_file: str | None = None,
    options: Options | None = None,
) -> Audit:
    """Audits a run, and writes `audit.html` and `audit.json`.

    Args:
        run: of `open_run`; what its store lacks is captured.
        folder: where to.
        classifier: `prompts`, `probe`, or the folder of a saved probe.
        prompts_file: JSON or YAML, `{class: [prompt, ...]}`, for `prompts`.
        options: how.

    Raises:
        ValueError: a run on texts, or what `chosen_classifier` refuses.
    """
    check_choice(classifier, prompts_file)
    ready(run)
    chosen = chosen_classifier(run, classifier, prompts_file)
    audit = audit_run(run, chosen, options)
    folder.mkdir(parents=True, exist_ok=True)
    write_report(audit, run, folder, chosen)
    write_audit(audit, folder)
    return audit


def audit_run(run: RunFolder, classifier: Classifier | None = None, options: Options | None = None) -> Audit:
    """Audits the classifier of a run.

    Args:
        run: `ready`.
        classifier: under audit; `None`: the run's own zero-shot classifier.
        options: how.

    Raises:
        ValueError: the classifier has none of the classes of the data.
    """
    options, classifier = options or Options(), classifier or prompt_classifier(run)
    found = examine(run, classifier, options)
    findings = _findings(run, classifier, options, found)
    return Audit(
        library_version=__version__,
        subject=_subject(run, classifier, options, found),
        classes=_classes(classifier, options, found, findings),
        findings=tuple(finding for _, finding in findings),
    )


def _findings(
    run: RunFolder, classifier: Classifier, options: Options, found: Examined
) -> list[tuple[int, Finding]]:
    """With the number of the class, as two classes can have one name."""
    drafts = [
        (studied, kind, culprits[: options.limits.culprits])
        for studied in found.studied
        for kind in KINDS
        if (culprits := studied.of_kind(kind))
    ]
    removals = [Removal(studied.c, tuple(c.latent for c in culprits)) for studied, _, culprits in drafts]
    effects = finding_effects(run, classifier.scores(options.output), found, removals, options.min_group)
    made = [
        (studied.c, _finding(classifier, found, studied, kind, culprits, effect))
        for (studied, kind, culprits), effect in zip(drafts, effects, strict=True)
    ]
    # shares that only rounding sets apart keep the order of the classes: on any device it is the same
    made.sort(key=lambda pair: (-SEVERITIES.index(pair[1].severity), -round(pair[1].share, 4)))
    return [
        (c, finding.model_copy(update={"number": n, "advice": (*finding.advice, EXPORT.format(number=n))}))
        for n, (c, finding) in enumerate(made, 1)
    ]


def _finding(
    classifier: Classifier,
    found: Examined,
    studied: Studied,
    kind: Kind,
    latents: Sequence[CulpritLatent],
    effect: Effect,
) -> Finding:
    name, worst = classifier.class_names[studied.c], latents[0]
    culprits = tuple(_culprit(found, studied, latent) for latent in latents)
    share = min(1.0, sum(culprit.share for culprit in culprits))
    things = [found.subjects.names[studied.cues.thing]] if kind in OF_THINGS else []
    return Finding(
        number=0,
        class_name=name,
        kind=kind,
        severity=severity(effect, share),
        confidence=worst.decided.confidence,
        share=share,
        **_over(found, studied, things),
        culprits=culprits,
        evidence=worst.decided.evidence,
        effect=effect,
        summary=summarise(name, kind, studied.phrase, culprits, things),
        advice=advise(name, kind, studied.phrase, things, classifier.kind),
    )


def _over(found: Examined, studied: Studied, things: Sequence[str]) -> dict[str, Any]:
    """How many images the attribution of the culprits is the mean over, and which."""
    cue, attributed = studied.cues, found.seen.attributed
    if things:
        shown = (found.subjects.subject == cue.thing).to(attributed.device)[attributed]
        return {"images": int(shown.sum()), "over": f'images of "{things[0]}"'}
    if cue.by_errors:
        return {"images": int(cue.errors[attributed].sum()), "over": "wrong predictions"}
    return {"images": cue.images, "over": "images predicted as it"}


def _culprit(found: Examined, studied: Studied, culprit: CulpritLatent) -> Culprit:
    judged, j = found.judged, culprit.latent
    p, alignment = float(judged.p[j]), float(judged.label_alignment[j])
    return Culprit(
        latent=j,
        label=judged.labels[j],
        alignment=0.0 if math.isnan(alignment) else alignment,
        p_value=None if math.isnan(p) else p,
        class_alignment=float(judged.alignment[j, studied.c]),
        class_threshold=float(judged.threshold[j, studied.c]),
        attribution=float(studied.ranking.attribution[j]),
        share=float(studied.ranking.share[j]),
        score=culprit.score,
        examples=tuple(driven_images(found.seen, studied.cues, j, EXAMPLES)),
    )


def _classes(
    classifier: Classifier, options: Options, found: Examined, findings: Sequence[tuple[int, Finding]]
) -> tuple[ClassResult, ...]:
    prompts = classifier.prompts or [()] * len(classifier.class_names)
    results = []
    for studied, name, group in zip(found.studied, classifier.class_names, prompts, strict=True):
        mine = tuple(finding.number for c, finding in findings if c == studied.c)
        enough = studied.cues.images >= options.limits.min_images
        verdict: Verdict = "findings" if mine else "no findings" if enough else "not enough evidence"
        shown = found.subjects.show(studied.c) & found.subjects.known
        right = (found.seen.predicted.cpu() == studied.c)[shown]
        results.append(
            ClassResult(
                name=name,
                prompts=tuple(group),
                verdict=verdict,
                images=studied.cues.images,
                accuracy=float(right.float().mean()) if len(right) else None,
                unexpected_share=_share(studied) if enough else None,
                findings=mine,
            )
        )
    return tuple(results)


def _share(studied: Studied) -> float:
    """Share of the positive attribution that is on culprits."""
    return min(1.0, sum(float(studied.ranking.share[culprit.latent]) for culprit in studied.culprits))


def _subject(run: RunFolder, classifier: Classifier, options: Options, found: Examined) -> Subject:
    data = run.data
    targets = found.subjects.targets
    own = torch.where(targets < len(classifier.class_names), targets, -1)
    right = accuracy(found.seen.predicted.cpu(), own)
    return Subject(
        run=run.folder.resolve().name,
        clip=data.clip.name,
        hook_point=data.hook.module,
        tokens=data.hook.tokens,
        classifier=classifier.kind,
        classifier_source=classifier.source,
        output=options.output,
        judge=data.judge.name,
        judge_independent=data.judge_independent,
        data=_data_name(data.images("val").identity()),
        images=len(found.seen.predicted),
        accuracy=None if math.isnan(right) else right,
        fvu=found.seen.fvu if math.isfinite(found.seen.fvu) else None,
    )


def _data_name(identity: dict[str, Any]) -> str:
    return str(identity.get("name", "images"))
