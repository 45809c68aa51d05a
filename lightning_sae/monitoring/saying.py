"""What the evidence says, as a record: which means have changed, by how much, since when, for whom."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_sae import __version__
from lightning_sae.audit.estimate import Estimate
from lightning_sae.monitoring.alarms import Alarm, ClassShift, FamilyState, MonitorRecord
from lightning_sae.monitoring.bets import ODDS, Array, interval
from lightning_sae.monitoring.evidence import NEVER
from lightning_sae.monitoring.families import FAMILIES, Family
from lightning_sae.monitoring.image_numbers import ImageNumbers
from lightning_sae.monitoring.reference import Reference
from lightning_sae.monitoring.state import State
from lightning_sae.report import compact, percent

CLASSES, EXAMPLES = 3, 6
SMALL = 0.1  # of the largest change: smaller ones are left out
WHAT: dict[Family, str] = {
    "firing": "fires on",
    "attribution": "drives",
    "culprits": "the culprits of the audit's findings drive",
    "error": "no latent explains",
}
OF: dict[Family, str] = {
    "firing": "of the images",
    "attribution": "of the predictions",
    "culprits": "of the predictions",
    "error": "of the activation",
}


def record_of(reference: Reference, state: State) -> MonitorRecord:
    """Return what a monitor says."""
    evidence, watch = state.evidence, reference.watch
    log_e = evidence.log_e()
    standing = watch.rejected(log_e)
    raised = np.flatnonzero(evidence.raised != NEVER)
    order = sorted(raised, key=lambda test: (not standing[test], evidence.raised[test], -log_e[test]))
    return MonitorRecord(
        library_version=__version__,
        run=reference.facts.run,
        reference_images=reference.numbers.n,
        reference=reference.facts.images,
        seen=evidence.seen,
        bad=state.bad,
        machines=len(state.machines),
        alpha=reference.facts.alpha,
        families=tuple(_family(reference, name, log_e, standing) for name in FAMILIES),
        alarms=tuple(_alarm(reference, state, int(test), log_e, bool(standing[test])) for test in order),
    )


def _family(reference: Reference, name: Family, log_e: Array, standing: NDArray[np.bool_]) -> FamilyState:
    mine = reference.tests.family == FAMILIES.index(name)
    return FamilyState(
        family=name,
        tests=int(mine.sum()),
        before=float(reference.means[mine].mean()),
        log10_e=float(log_e[mine].max() / np.log(10)),
        alarms=int((standing & mine).sum()),
    )


def _unit(reference: Reference, family: Family, latent: int | None) -> float:
    """Return what a number of 1 stands for."""
    if family == "attribution":
        assert latent is not None
        return float(reference.scales.share[latent])
    return reference.scales.width if family == "error" else 1.0


def _alarm(reference: Reference, state: State, test: int, log_e: Array, standing: bool) -> Alarm:
    evidence = state.evidence
    family, latent = reference.tests.named(test)
    unit = _unit(reference, family, latent)
    bet = int(evidence.best[:, test].argmax())
    since, n = int(evidence.since[bet, test]), int(evidence.counted[bet, test])
    low, high = (float(part[test]) for part in reference.bounds)
    mean = min(1.0, float(evidence.total[bet, test]) / max(n, 1))
    before = Estimate(value=float(reference.means[test]) * unit, low=low * unit, high=high * unit)
    ends = [end * unit for end in interval(mean, n)]
    now = Estimate(value=mean * unit, low=ends[0], high=ends[1])
    recent = state.recent.after(since)
    shifts = class_shifts(reference, recent.numbers, family, latent)
    label = "" if latent is None else reference.facts.labels[latent]
    direction: Literal["rose", "fell"] = "rose" if ODDS[bet] > 1 else "fell"
    return Alarm(
        family=family,
        latent=latent,
        label=label,
        direction=direction,
        before=before,
        now=now,
        images=n,
        since=since,
        raised=int(evidence.raised[test]),
        standing=standing,
        log10_e=float(log_e[test] / np.log(10)),
        classes=tuple(shifts),
        examples_before=_examples(
            reference.numbers,
            family,
            latent,
            range(reference.whole.n - reference.numbers.n, reference.whole.n),
        ),
        examples_now=_examples(recent.numbers, family, latent, recent.places),
        sentence=_sentence(family, label, before, now, since, shifts),
    )


def of_images(numbers: ImageNumbers, family: Family, latent: int | None) -> Array:
    """Return the number of each image that a family watches, `[n]`; for a latent, how much it drives."""
    if family == "culprits":
        return numbers.culprits.double().numpy()
    if family == "error":
        return numbers.error.double().numpy()
    assert latent is not None
    values, mine = np.zeros(numbers.n), torch.eq(numbers.shares.indices, latent).numpy()
    values[numbers.shares.rows().numpy()[mine]] = numbers.shares.values.double().numpy()[mine]
    return values


def class_shifts(
    reference: Reference, now: ImageNumbers, family: Family, latent: int | None
) -> list[ClassShift]:
    """Return the classes whose part in a mean has changed most, the largest change first."""
    names = reference.facts.class_names
    parts = [_by_class(numbers, family, latent, len(names)) for numbers in (reference.numbers, now)]
    change = np.abs(parts[1] - parts[0])
    order = [c for c in np.argsort(-change)[:CLASSES] if change[c] > SMALL * change.max() and now.n]
    return [ClassShift(class_name=names[c], before=float(parts[0][c]), now=float(parts[1][c])) for c in order]


def _by_class(numbers: ImageNumbers, family: Family, latent: int | None, n_classes: int) -> Array:
    values = of_images(numbers, family, latent)
    counts = numbers.attributed.numpy() if family != "error" else np.ones(numbers.n, dtype=bool)
    sums = np.bincount(numbers.predicted.numpy()[counts], values[counts], n_classes)
    means: Array = sums / max(int(counts.sum()), 1)
    return means


def _examples(
    numbers: ImageNumbers, family: Family, latent: int | None, places: Sequence[int]
) -> tuple[int, ...]:
    """Return the images with the largest number, the latest first among equal ones."""
    values = of_images(numbers, family, latent)
    order = np.lexsort((-np.arange(len(values)), -values))[:EXAMPLES]
    return tuple(int(places[i]) for i in order if values[i] > 0)


def _sentence(
    family: Family, label: str, before: Estimate, now: Estimate, since: int, shifts: Sequence[ClassShift]
) -> str:
    shares = f"{_share(now)} {OF[family]} since image {since + 1:,}, before {_share(before)}"
    subject = f"{label} " if label else ""
    said = f"{subject}{WHAT[family]} {shares}".replace("no latent explains", "No latent explains")
    said = said[0].upper() + said[1:]
    if not shifts:
        return f"{said}."
    first, *others = (f"{s.class_name} ({_percent(s.before)} → {_percent(s.now)}{{}})" for s in shifts)
    of = " of the activation" if family == "error" else " of what drives all predictions"
    moved = ", ".join([first.format(of), *(each.format("") for each in others)])
    return f"{said}. {'Predicted as' if family == 'error' else 'It moves'}: {moved}."


def _share(estimate: Estimate) -> str:
    low, high = (_percent(end).removesuffix(" %") for end in (estimate.low, estimate.high))
    return f"{_percent(estimate.value)} ({low} to {high} %)"


def _percent(share: float) -> str:
    return percent(share, 1) if share >= 0.001 else f"{compact(100 * share, 1)} %"
