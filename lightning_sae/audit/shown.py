"""An audit from Python, and how it shows itself in a notebook: the class table, findings with examples."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from lightning_sae.audit.audit import audit_to_folder
from lightning_sae.audit.audited import audited_classifier
from lightning_sae.audit.evidence.cues import Limits
from lightning_sae.audit.examination import Options
from lightning_sae.audit.findings import Audit, Finding
from lightning_sae.audit.report import view
from lightning_sae.audit.report.evidence import finding_view
from lightning_sae.audit.report.heatmaps import Heatmaps
from lightning_sae.audit.report.page import drivers_of
from lightning_sae.classifiers.outputs import Output
from lightning_sae.files import user_path
from lightning_sae.report import render_cell
from lightning_sae.runs.folder import RunFolder

ROOM = "lightning_sae.audit.report"


class ShownAudit:
    """An audit with its run; in a notebook it shows itself.

    Args:
        audit: what was found.
        run: that was audited.
        output: the score, where it is one of your own, as the audit records only its name.

    Attributes:
        audit: as `audit.json` has it.
    """

    def __init__(self, audit: Audit, run: RunFolder, output: Output | str | None = None) -> None:
        self.audit, self.run = audit, run
        self._output = output or audit.subject.output

    @cached_property
    def findings(self) -> list["ShownFinding"]:
        """Its findings, the most severe first."""
        return [ShownFinding(finding, self) for finding in self.audit.findings]

    def finding(self, number: int) -> "ShownFinding":
        """Return the finding of a number, from 1 on.

        Raises:
            ValueError: there is none.
        """
        return ShownFinding(self.audit.finding(number), self)

    @cached_property
    def heatmaps(self) -> Heatmaps | None:
        """Maps of where culprits drive the score; `None` where the tokens are no places in an image."""
        return Heatmaps.of(self.run, audited_classifier(self.run, self.audit), self._output)

    def to_frame(self) -> pd.DataFrame:
        """Return a row per class: its verdict, how it was judged, and the numbers of its findings."""
        columns = ["name", "verdict", "images", "accuracy", "told", "unexpected_share", "findings"]
        rows = [result.model_dump(include={*columns}) for result in self.audit.classes]
        return pd.DataFrame(rows, columns=columns).set_index("name").rename_axis("class")

    def __repr__(self) -> str:
        return f"ShownAudit({self.audit.subject.run}: {view.sentence(self.audit)})"

    def _repr_html_(self) -> str:
        drivers, same = drivers_of(self.audit, self.run)
        context = {
            "title": f"Audit of {self.audit.subject.run}",
            "summary": view.summary(self.audit),
            "findings": self.audit.findings,
            "classes": view.class_groups(self.audit, drivers),
            "same_prompts": same,
            "linked": False,
        }
        return render_cell(ROOM, "audit_cell.html.jinja", context)


class ShownFinding:
    """A finding with its audit; in a notebook it shows itself with examples of its culprits.

    Args:
        finding: what was found.
        within: the audit.

    Attributes:
        finding: as `audit.json` has it.
    """

    def __init__(self, finding: Finding, within: ShownAudit) -> None:
        self.finding, self.within = finding, within

    def to_frame(self) -> pd.DataFrame:
        """Return a row per culprit, the worst first."""
        left_out = {"net", "examples", "top_images"}
        rows = [culprit.model_dump(exclude=left_out) for culprit in self.finding.culprits]
        return pd.DataFrame(rows).set_index("latent")

    def __repr__(self) -> str:
        found = self.finding
        return f"ShownFinding({found.number}, {found.severity} {found.kind}: {found.summary})"

    def _repr_html_(self) -> str:
        images, heatmaps = self.within.run.data.images("val"), self.within.heatmaps
        finding = finding_view(self.finding, images, heatmaps)
        finding["seeds"] = self.within.audit.said_of_seeds(self.finding)
        context: dict[str, Any] = {"finding": finding, "heatmaps": heatmaps is not None, "linked": False}
        return render_cell(ROOM, "finding_cell.html.jinja", context)


def audit_classifier(
    run: RunFolder,
    classifier: str = "prompts",
    prompts_file: str | None = None,
    output: Output | str = "margin",
    min_images: int = 20,
    folder: str | Path | None = None,
    earlier: Sequence[str | Path] = (),
) -> ShownAudit:
    """Audit the classifier of a run: what it relies on that nobody intended.

    Like the command, it writes `audit.json` and `audit.html`, and captures what the run's store lacks.

    Args:
        run: run from `open_run`.
        classifier: `prompts`, `probe` (a linear one, fitted now), or the folder of a saved one.
        prompts_file: JSON or YAML, `{class: [prompt, ...]}`, of any classes.
        output: the score.
        min_images: images that must be predicted as a class; fewer are not enough evidence.
        folder: folder to write to; `None`: the run's own.
        earlier: folders of finished runs of the same CLIP at earlier hook points, to say where culprits come
            from; the earlier hook points of the run itself are used in any case.

    Raises:
        ValueError: a run on texts, or a classifier or an earlier hook point that does not fit it.
        FileNotFoundError: no probe, or no prompts, lie there.
    """
    options = Options(output, Limits(min_images=min_images), earlier=tuple(map(user_path, earlier)))
    place = run.folder if folder is None else user_path(folder)
    return ShownAudit(audit_to_folder(run, place, classifier, prompts_file, options), run, output)
