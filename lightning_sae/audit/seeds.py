"""The other seeds of the audited run's recipe, and how many of them have its findings."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lightning_sae.audit.findings import Audit
from lightning_sae.compare.runs import read_runs
from lightning_sae.stability.findings import Matches, read_seed_audit, recurring_findings
from lightning_sae.stability.stability import compare_seeds


class OtherSeeds(NamedTuple):
    """The audits of the runs of one recipe, and which of their latents match.

    Attributes:
        audits: audits of the finished runs, in the order of their paths; `None` stands for the audited run.
        matches: places of two runs -> their latents that match.
    """

    audits: list[Audit | None]
    matches: Matches

    def count_seeds(self, audit: Audit) -> Audit:
        """Return the audit with the number of seeds in which each of its findings occurs.

        Raises:
            ValueError: the other runs were audited with other settings; the message names what differs.
        """
        own = self.audits.index(None)
        groups = recurring_findings([audit if one is None else one for one in self.audits], self.matches)
        seeds = {
            member.finding.number: group.seeds
            for group in groups
            for member in group.members
            if member.place == own
        }
        found = [finding.model_copy(update={"in_seeds": seeds[finding.number]}) for finding in audit.findings]
        return audit.model_copy(update={"seeds": len(self.audits), "findings": tuple(found)})


def read_other_seeds(run: Path, folders: Sequence[Path]) -> OtherSeeds:
    """Read the other seeds of a run.

    Args:
        run: folder of the audited run, whether it is among the others or not.
        folders: run folders, or folders that hold them, as of a multirun; unfinished runs are left out.

    Raises:
        FileNotFoundError: there is no run, or one has not been audited.
        ValueError: the run is not finished, is the only one, or differs from another in more than the seed.
    """
    runs = [one for one in read_runs([run, *folders]) if one.finished or one.folder == run.resolve()]
    if lacking := [one for one in runs if not one.finished]:
        raise ValueError(f"{run} is not finished ({lacking[0].why}): nothing can be said of its seeds")
    audits = [None if one.folder == run.resolve() else read_seed_audit(one) for one in runs]
    return OtherSeeds(audits, compare_seeds(runs).matches)
