"""Images that look like a culprit's label to the judge: the groups where the data do not know the cue."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.audit.findings import Finding
from lightning_sae.audit.verdict.sides import usual
from lightning_sae.concepts.vocabulary import embed_labels
from lightning_sae.correct.embeddings import CulpritView
from lightning_sae.data.images.image_set import Split
from lightning_sae.runs.folder import RunFolder

JUDGE = "judge"  # the factor


class Look(NamedTuple):
    """A label, and the cosine from which on an image looks like it to the judge.

    Attributes:
        label: label of a culprit.
        text: `[d_judge]` unit, its embedding.
        least: cosine that is reached by three of four of the images on which the culprit drives the class
            most.
    """

    label: str
    text: Tensor
    least: float


def find_look(run: RunFolder, finding: Finding, class_names: Sequence[str]) -> Look | None:
    """Return what the worst culprit stands for, if its label is to be relied on and is no class.

    Args:
        run: with its data set up.
        finding: of the audit.
        class_names: of the classifier; the data know where a class is.
    """
    worst = finding.culprits[0]
    if not worst.named or worst.label in class_names or not worst.examples:
        return None
    (text,) = embed_labels(run.data.judge, [worst.label], run.vocabulary().templates).float().cpu()
    cosines = run.data.judge_view("val").float()[list(worst.examples)] @ text
    return Look(worst.label, text, usual(cosines))


def with_look(run: RunFolder, split: Split, seen: CulpritView, look: Look | None) -> CulpritView:
    """Return the images of a split with one more factor, whether they look like a label to the judge.

    Args:
        run: with its data set up.
        split: of its data.
        seen: all of its images.
        look: `None` adds none.
    """
    if look is None:
        return seen
    has = run.data.judge_view(split).float() @ look.text >= look.least
    values = [look.label, f"not {look.label}"]
    return seen._replace(factors={**seen.factors, JUDGE: (values, torch.where(has, 0, 1))})
