"""What a correction says of itself: what was changed, on what data it was chosen, what it does."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from lightning_sae.correct.corrected_classifier import Way

FORMAT = 2  # as in Record


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BeforeAfter(_Model):
    """A share in [0, 1]; `None` without images.

    Attributes:
        before: the share before the correction.
        after: the share after the correction.
        shifted: the share with nothing but a shift of the class's logit, chosen by the same rule.
    """

    before: float | None
    after: float | None
    shifted: float | None

    @property
    def gain(self) -> float:
        """After less before; 0 without images."""
        return (self.after or 0.0) - (self.before or 0.0)


class GroupRow(_Model):
    """The images with one value of a factor.

    Attributes:
        factor: `culprits` for the activity of the culprits, "" for all images, with `=VALUE` where one value
            stands against all others.
        value: value of the factor.
        own: number of images of the corrected class.
        others: number of images that are not of that class, including images of no class.
        own_accuracy: share of the class's images that are predicted as it.
        others_accuracy: share of the others of a known class that are predicted as that class.
        false_positives: share of the others that are predicted as the corrected class.
        error: the balanced error; `None` for a group that is too small.
    """

    factor: str
    value: str
    own: int
    others: int
    own_accuracy: BeforeAfter
    others_accuracy: BeforeAfter
    false_positives: BeforeAfter
    error: BeforeAfter


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


class HeldLatents(_Model):
    """The latents that are held while CLIP embeds.

    Attributes:
        layer: short name of the hook point.
        hook_point: module path.
        tokens: token rule.
        sources: whether they are sources of the culprits at an earlier hook point, not the culprits.
        latents: `m` of them.
        labels: of each.
        named: which of the labels are to be relied on.
        values: at which they are held.
    """

    layer: str
    hook_point: str
    tokens: str
    sources: bool
    latents: tuple[int, ...]
    labels: tuple[str, ...]
    named: tuple[bool, ...]
    values: tuple[float, ...]


class ClassAccuracy(_Model):
    """The effect of a correction on one class.

    Attributes:
        name: of the class.
        images: of it.
        accuracy: share of them that are predicted as it.
        lost: share of them that were right and are wrong.
    """

    name: str
    images: int
    accuracy: BeforeAfter
    lost: float


class SplitMeasures(_Model):
    """The measured effect of a correction on some images.

    Attributes:
        split: of the data.
        images: number of images of the data for which it is known whether they are of the class.
        accuracy: on the images that belong to one of the classes.
        false_positives: share of the images of other classes that are predicted as the corrected class.
        worst: balanced error of the worst group of the factor that the correction was chosen by.
        damage: share of the images of known class that were right and are wrong, whatever was gained.
    """

    split: str
    images: int
    accuracy: BeforeAfter
    false_positives: BeforeAfter
    worst: BeforeAfter
    damage: float


class Record(_Model):
    """`config.json` of an exported classifier.

    Attributes:
        format_version: version of this layout; a record of another version is refused.
        library_version: version of the library that wrote the record.
        kind: what the classifier was made from.
        class_names: in the order of the class vectors.
        clip: identity of the CLIP.
        hook_point: module path of the hook point where the culprits are.
        tokens: token rule.
        run: name of the run folder.
        data: what the images are.
        finding: its number in the audit.
        finding_kind: of reliance.
        summary: of the finding.
        target: the class that is corrected.
        way: `shift` of the threshold, `edit`, `erase`, `refit`, `clamp` or `ablate`.
        spared: classes of which an edit keeps the mean score, beside the corrected one.
        latents: the culprits.
        labels: of the culprits.
        named: which of the labels are to be relied on.
        held: what is held, and where; `None` where nothing but class vectors changed.
        amount: strength of an edit, inverse penalty of a refit, part of the mean at which latents are held,
            1 for an ablation, 0 for a shift.
        shift: shift of the class's logit that is added to the way.
        plain_shift: best shift of the class's logit alone, by the same rule; 0 where no shift helps.
        factor: factor whose groups the correction was chosen by; with `=VALUE`, that value against all
            others; `printed` for images with the class's word printed on them, against all as they are.
        printed: how the word was printed; `None` for other factors.
        max_loss: loss of accuracy that was allowed when the correction was chosen.
        max_group_loss: loss of the accuracy of other classes in a group that was allowed.
        max_class_loss: loss of the accuracy of any class that was allowed.
        max_false_positive_rise: rise that was allowed of the share of other images taken for the class.
        min_group: number of images below which a group was left out.
        chosen: measures on the images that the correction was chosen on.
        measured: measures on other images.
        groups: a row for each group of the images of `measured`.
        classes: a row for each class on the images of `measured`, the largest loss first.
    """

    format_version: Literal[2] = 2
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
    way: Way
    spared: tuple[str, ...]
    latents: tuple[int, ...]
    labels: tuple[str, ...]
    named: tuple[bool, ...]
    held: HeldLatents | None
    amount: float
    shift: float
    plain_shift: float
    factor: str
    printed: Printed | None
    max_loss: float
    max_group_loss: float
    max_class_loss: float
    max_false_positive_rise: float
    min_group: int
    chosen: SplitMeasures
    measured: SplitMeasures
    groups: tuple[GroupRow, ...]
    classes: tuple[ClassAccuracy, ...]

    @property
    def losers(self) -> tuple[ClassAccuracy, ...]:
        """Classes that lose accuracy on the images of `measured`, the largest loss first."""
        return tuple(row for row in self.classes if row.accuracy.gain < 0)
