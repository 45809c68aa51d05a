"""The monitor of a classifier in use: is what it relies on still what it was?"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from PIL import Image
from torch import Tensor

from lightning_sae.files import user_path
from lightning_sae.monitoring.alarms import Alarm, MonitorRecord
from lightning_sae.monitoring.evidence import NEVER
from lightning_sae.monitoring.image_numbers import ImageNumbers
from lightning_sae.monitoring.looking import Looking
from lightning_sae.monitoring.reference import Reference, load_reference
from lightning_sae.monitoring.saying import record_of
from lightning_sae.monitoring.state import FILE as STATE
from lightning_sae.monitoring.state import State, load_state, reference_digest, save_state
from lightning_sae.report.thumbnails import thumbnail
from lightning_sae.runs.folder import RunFolder, open_run

SIDE = 64  # pixels of a thumbnail


class Monitor:
    """Watches what drives the predictions of a classifier, image after image.

    Args:
        looking: what images are looked at with.
        reference: what was usual.
        state: what has been seen; changed by `update`.
        folder: where `save` writes.
        thumbnails: whether small pictures of the latest images are kept; else nothing but numbers is.

    Example:
        In a service, beside the CLIP that it runs anyway::

            monitor = Monitor.open("monitor")
            with capture(clip, [hook_point]) as seen:
                embeddings = clip.encode_image(pixels)
            for alarm in monitor.update(seen[hook_point]):
                page_someone(alarm.sentence)
    """

    def __init__(
        self,
        looking: Looking,
        reference: Reference,
        state: State,
        folder: Path,
        thumbnails: bool = False,
    ) -> None:
        self.looking, self.reference, self.state = looking, reference, state
        self.folder, self.thumbnails = folder, thumbnails

    @classmethod
    def open(cls, folder: str | Path, run: RunFolder | None = None, thumbnails: bool = False) -> Self:
        """Open the folder of a monitor, with what it has seen so far.

        Args:
            folder: as `monitor fit` wrote it.
            run: where its run lies now; `None`: where it lay then.
            thumbnails: whether small pictures of the latest images are kept.

        Raises:
            FileNotFoundError: it is no folder of a monitor, or the run is not there.
            ValueError: a file is damaged, the run has another autoencoder, or the state another reference.
        """
        folder = user_path(folder)
        reference, digest = load_reference(folder), reference_digest(folder)
        run = run_of(reference) if run is None else run
        if run.sae_sha256 != reference.facts.sae_sha256:
            raise ValueError(
                f"{run.folder} has another autoencoder than the reference in {folder}: fit the monitor again"
            )
        state = load_state(folder) if (folder / STATE).is_file() else None
        if state is not None and state.reference != digest:
            raise ValueError(
                f"{folder / STATE} is held against another reference than the one beside it: bring that one "
                "back, or delete the state to begin anew"
            )
        facts = reference.facts
        looking = Looking.of(run, reference.classifier, facts.culprits, facts.attribute_every)
        tests = reference.tests
        new = State.new(tests.d_sae, sum(tests.sizes), digest)
        return cls(looking, reference, state or new, folder, thumbnails)

    def update(self, images: Sequence[Image.Image] | Tensor) -> list[Alarm]:
        """Look at further images, and return the alarms that they raise.

        The test is made after each of them: it does not matter in which batches they come.

        Args:
            images: pictures of Pillow; preprocessed pixels `[n, 3, H, W]`; or activations at the hook point
                `[n, d_in]` (the embeddings, where that is the last of CLIP), which costs no pass of CLIP.

        Raises:
            ValueError: activations of another shape, or that are not enough (`Looking.at_activations`).
        """
        if isinstance(images, Tensor):
            at = self.looking.at_pixels if images.ndim == 4 else self.looking.at_activations
            return self._add(at(images, self.seen), []) if len(images) else []
        if not images:
            return []
        prepared = torch.stack([self.looking.clip.prepare(image.convert("RGB")) for image in images])
        return self.update_prepared(prepared)

    def update_prepared(self, prepared: Tensor) -> list[Alarm]:
        """Do the same with what `Clip.prepare` has made of images, stacked."""
        clip = self.looking.clip
        if not len(prepared):
            return []
        numbers = self.looking.at_pixels(clip.finish(prepared.to(clip.device)), self.seen)
        return self._add(numbers, _pictures(prepared) if self.thumbnails else [])

    def _add(self, numbers: ImageNumbers, pictures: list[bytes]) -> list[Alarm]:
        evidence, before = self.state.evidence, self.seen
        already = evidence.raised != NEVER
        self.reference.watch.update(evidence, self.reference.entries(numbers))
        self.state.recent.add(numbers, before, pictures)
        if (already == (evidence.raised != NEVER)).all():
            return []
        return [alarm for alarm in self.record().alarms if alarm.raised > before]

    @property
    def seen(self) -> int:
        """Images so far."""
        return self.state.evidence.seen

    def record(self) -> MonitorRecord:
        """Return all that there is to say, as `monitor.json` has it."""
        return record_of(self.reference, self.state)

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """The alarms that stand."""
        return self.record().standing

    def save(self) -> None:
        """Write the state, whole or not at all; a monitor that is opened afterwards goes on from it."""
        save_state(self.state, self.folder)


def run_of(reference: Reference) -> RunFolder:
    """Open the run of a reference, where it lay when that was made."""
    return open_run(reference.facts.run)


def _pictures(prepared: Tensor) -> list[bytes]:
    """Return thumbnails of bytes `[n, H, W, 3]`; none of what is no picture any more."""
    if prepared.dtype != torch.uint8 or prepared.ndim != 4:
        return []
    found = []
    for pixels in prepared.cpu().numpy():
        buffer = io.BytesIO()
        thumbnail(Image.fromarray(pixels), SIDE).save(buffer, "WEBP", quality=60)
        found.append(buffer.getvalue())
    return found
