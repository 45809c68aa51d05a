"""What a correction says of itself: what was changed, on what data it was chosen, what it does."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

FORMAT = 1  # as in Record


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Change(_Model):
    """A share in [0, 1] before and after the correction; `None` without images."""

    before: float | None
    after: float | None


class Group(_Model):
    """The images with one value of a factor.

    Attributes:
        factor: `culprits` for the activity of the culprits, "" for all images.
        value: of it.
        own: images of the corrected class.
        others: images that are not of it, also such as are of none of the classes.
        own_accuracy: share of the first that are predicted as the class.
        others_accuracy: share of the others of a class that are predicted as it.
        false_positives: share of the others that are predicted as the class.
        error: the balanced error; `None` for a group that is too small.
    """

    factor: str
    value: str
    own: int
    others: int
    own_accuracy: Change
    others_accuracy: Change
    false_positives: Change
    error: Change


class Printed(_Model):
    """A label that is printed on images.

    Attributes:
        word: on it.
        font: file of matplotlib.
        height: of the label, a share of the picture's.
        place: 0 at the upper edge to 1 at the lower one.
    """

    word: str
    font: str
    height: float
    place: float


class ClassAccuracy(_Model):
    """Share of a class's images that are predicted as it."""

    name: str
    images: int
    accuracy: Change


class Measured(_Model):
    """What the correction does on some images.

    Attributes:
        split: of the data.
        images: of the data, of which it is known whether they are of the class.
        accuracy: of those that are of any of the classes.
        worst: balanced error of the worst group of the factor that it was chosen by.
    """

    split: str
    images: int
    accuracy: Change
    worst: Change


class Record(_Model):
    """`config.json` of an exported classifier.

    Attributes:
        format_version: of this layout; another one is refused.
        library_version: that wrote it.
        kind: what the classifier was made from.
        class_names: in the order of the class vectors.
        clip: identity of the CLIP.
        hook_point: module path; where the culprits are.
        tokens: token rule.
        run: name of the run folder.
        data: what the images are.
        finding: its number in the audit.
        finding_kind: of reliance.
        summary: of the finding.
        target: the class that is corrected.
        way: `edit`, `clamp` or `ablate`.
        latents: the culprits.
        labels: of the culprits.
        named: which of the labels are to be relied on.
        values: at which they are held; none for an edit.
        amount: strength of an edit, part of the mean at which latents are clamped, 1 for an ablation.
        shift: added to the class's logit, with the way.
        factor: whose groups it was chosen by; with `=VALUE`, of which one value against all others; `printed`
            for images with the class's word printed on them, against all as they are.
        printed: how it was printed; `None` for other factors.
        max_loss: of accuracy that was allowed when it was chosen.
        max_group_loss: of the accuracy of other classes in a group that was allowed.
        min_group: images; smaller groups were left out.
        chosen: on what, with the figures there.
        measured: on other images.
        groups: on the images of `measured`.
        classes: on the images of `measured`.
    """

    format_version: Literal[1] = 1
    library_version: str
    kind: Literal["prompts", "probe"]
    class_names: tuple[str, ...]
    clip: dict[str, str]
    hook_point: str
    tokens: str
    run: str
    data: str
    finding: int
    finding_kind: str
    summary: str
    target: str
    way: Literal["edit", "clamp", "ablate"]
    latents: tuple[int, ...]
    labels: tuple[str, ...]
    named: tuple[bool, ...]
    values: tuple[float, ...]
    amount: float
    shift: float
    factor: str
    printed: Printed | None
    max_loss: float
    max_group_loss: float
    min_group: int
    chosen: Measured
    measured: Measured
    groups: tuple[Group, ...]
    classes: tuple[ClassAccuracy, ...]
