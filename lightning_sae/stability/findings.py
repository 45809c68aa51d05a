"""Findings of several seeds, put together where they are one."""

from collections.abc import Mapping, Sequence, Set
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from lightning_sae.audit.findings import FILE, Audit, Finding, read_audit
from lightning_sae.compare.runs import Run

ALIKE = ("clip", "hook_point", "tokens", "classifier", "output", "judge", "data")
"""Fields of the subject that are equal in audits whose findings are compared."""

Matches = Mapping[tuple[int, int], Set[tuple[int, int]]]
"""Places of two runs, the lower first -> their latents that match."""


class Placed(NamedTuple):
    """A finding and the place of its run."""

    place: int
    finding: Finding


class RecurringFinding(NamedTuple):
    """One finding of several seeds.

    Attributes:
        members: its findings, in the order of the runs.
    """

    members: list[Placed]

    @property
    def seeds(self) -> int:
        """Number of the runs that have it."""
        return len({member.place for member in self.members})


def recurring_findings(audits: Sequence[Audit], matches: Matches) -> list[RecurringFinding]:
    """Put together findings of different audits that are the same one, those of most seeds first.

    Two findings of different runs are the same if they are of the same class and kind, and a culprit of the
    one matches a culprit of the other. Findings that are joined through a third run are the same, too.

    Args:
        audits: of runs of one recipe.
        matches: latents of every two runs that match.

    Raises:
        ValueError: audits of something else, such as other prompts; names it.
    """
    check_alike(audits)
    placed = [Placed(place, finding) for place, audit in enumerate(audits) for finding in audit.findings]
    edges = np.zeros((len(placed), len(placed)), dtype=bool)
    for i, j in combinations(range(len(placed)), 2):
        edges[i, j] = _one(placed[i], placed[j], matches)
    groups: dict[int, list[Placed]] = {}
    for label, one in zip(connected_components(csr_array(edges), directed=False)[1], placed, strict=True):
        groups.setdefault(int(label), []).append(one)
    found = [RecurringFinding(members) for members in groups.values()]
    return sorted(found, key=lambda one: (-one.seeds, -max(m.finding.harm.value for m in one.members)))


def read_seed_audit(run: Run) -> Audit:
    """Read the audit of a run.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or of an autoencoder that the run had before.
    """
    audit = read_audit(run.folder)
    if audit.subject.sae_sha256 not in ("", run.sae_sha256):
        raise ValueError(
            f"{run.folder / FILE} is of another autoencoder than that of the run: audit it again with "
            f"`lightning-sae audit {run.folder}`"
        )
    return audit


def _one(first: Placed, second: Placed, matches: Matches) -> bool:
    """Return whether two findings, the first of an earlier run, are one."""
    a, b = first.finding, second.finding
    if first.place == second.place or (a.class_name, a.kind) != (b.class_name, b.kind):
        return False
    pairs = {(one.latent, other.latent) for one in a.culprits for other in b.culprits}
    return not pairs.isdisjoint(matches[first.place, second.place])


def check_alike(audits: Sequence[Audit]) -> None:
    """Refuse audits whose findings cannot be compared.

    Raises:
        ValueError: they are of another classifier, score or judge, or of other prompts; names what differs.
    """
    first = audits[0]
    for audit in audits[1:]:
        both = (first.subject, audit.subject)
        said = [f"{key} {' and '.join(str(getattr(one, key)) for one in both)}" for key in ALIKE]
        differ = [
            text for key, text in zip(ALIKE, said, strict=True) if len({getattr(s, key) for s in both}) > 1
        ]
        classes = [[(result.name, result.prompts) for result in one.classes] for one in (first, audit)]
        differ += ["classes or prompts"] * (classes[0] != classes[1])
        if differ:
            raise ValueError(
                f"the audits of {first.subject.run} and {audit.subject.run} differ in {'; '.join(differ)}: "
                "audit both alike"
            )
