"""What a monitor says: alarms in words; `monitor.json`, schema version 1."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from lightning_sae.audit.estimate import Estimate
from lightning_sae.files import write_atomic
from lightning_sae.monitoring.families import Family
from lightning_sae.trust.records import read_record_of

FILE = "monitor.json"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ClassShift(_Model):
    """The part of a class in what has changed.

    Attributes:
        class_name: the class that images are predicted as.
        before: mean of the number over all reference images, 0 for those not predicted as the class.
        now: the same over the latest images since the change.
    """

    class_name: str
    before: float
    now: float


class Alarm(_Model):
    """A mean that is not what it was.

    Attributes:
        family: what is watched.
        latent: number of the latent; `None` for a family that is not about single latents.
        label: what the latent is called.
        direction: of the change.
        before: mean over the reference images, and the bounds that their finite number leaves it.
        now: mean since the change, and its 95 % interval, not corrected for the choice of when it began.
        images: behind `now`.
        since: images that had been seen when the change most likely began.
        raised: images that had been seen when the alarm was raised.
        standing: whether its test is still among those that reject together.
        log10_e: logarithm of the e-value, by which the wealth of a bet on the change has grown.
        classes: whose predictions it moves most.
        examples_before: validation images that show the latent, by id.
        examples_now: latest images, by their place in the stream.
        sentence: all of it in words.
    """

    family: Family
    latent: int | None
    label: str
    direction: Literal["rose", "fell"]
    before: Estimate
    now: Estimate
    images: int
    since: int
    raised: int
    standing: bool
    log10_e: float
    classes: tuple[ClassShift, ...]
    examples_before: tuple[int, ...]
    examples_now: tuple[int, ...]
    sentence: str


class FamilyState(_Model):
    """A family of tests as it stands.

    Attributes:
        family: its name.
        tests: how many.
        before: mean over the reference images and its tests, of numbers in [0, 1].
        log10_e: largest logarithm of an e-value.
        alarms: standing.
    """

    family: Family
    tests: int
    before: float
    log10_e: float
    alarms: int


class MonitorRecord(_Model):
    """All that a monitor says, as `monitor.json` has it.

    Attributes:
        schema_version: of this layout; another one is refused.
        library_version: that wrote it.
        run: folder of the run.
        reference_images: how many.
        reference: what they are.
        seen: images.
        bad: images that could not be read.
        machines: number of machines that have seen the images.
        alpha: chance of any alarm where nothing has changed.
        families: what is watched.
        alarms: those that stand first, then in order of when they were raised.
    """

    schema_version: Literal[1] = 1
    library_version: str
    run: str
    reference_images: int
    reference: str
    seen: int
    bad: int
    machines: int
    alpha: float
    families: tuple[FamilyState, ...]
    alarms: tuple[Alarm, ...]

    @property
    def standing(self) -> tuple[Alarm, ...]:
        """The alarms that stand."""
        return tuple(alarm for alarm in self.alarms if alarm.standing)


def write_record(record: MonitorRecord, folder: Path) -> Path:
    """Write `monitor.json`, whole or not at all, and return its path."""
    path = folder / FILE
    write_atomic(path, (record.model_dump_json(indent=2) + "\n").encode())
    return path


def read_record(folder: Path) -> MonitorRecord:
    """Read `monitor.json`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is of another version, or not whole; names the fields.
    """
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {FILE}: `lightning-sae monitor watch {folder}` writes it")
    return read_record_of(MonitorRecord, path, "record of schema version 1", "watch again")
