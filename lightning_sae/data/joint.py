"""Images and texts in one data set: their final embeddings, which share a space."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from lightning_sae.clip import FINAL_TEXT, Clip, HookPoint, TextClip, make_tail
from lightning_sae.data.capture.capture import Capture
from lightning_sae.data.datamodule import ActivationDataModule
from lightning_sae.data.images.image_set import ImageSet, ImageSource, Split
from lightning_sae.data.loading.loaders import EvalLoader
from lightning_sae.data.store.activations import ActivationStore, Layout
from lightning_sae.metrics.moments import ActivationStatistics, Moments


class JointExamples:
    """One split of images, and behind them one of texts, in the place of an `ImageSet`.

    Classes and vocabulary are those of the images; a factor that only one of the two knows is unknown (-1)
    for the other.

    Args:
        images: the images, ids `0..n_images-1`.
        texts: the texts, ids from `n_images`.
    """

    def __init__(self, images: ImageSet, texts: ImageSet) -> None:
        self.images, self.texts, self.n_images = images, texts, len(images)
        self.class_names, self.vocabulary = images.class_names, images.vocabulary

    @property
    def targets(self) -> Tensor:
        """`[n]` int64."""
        return torch.cat([self.images.targets, self.texts.targets])

    @property
    def factors(self) -> Mapping[str, tuple[list[str], Tensor]]:
        """The factors of the images, and of what the texts say."""
        own, said = self.images.factors, self.texts.factors
        names = {name: values for name, (values, _) in [*said.items(), *own.items()]}
        return {
            name: (values, torch.cat([_known(own, name, self.images), _known(said, name, self.texts)]))
            for name, values in names.items()
        }

    def __len__(self) -> int:
        return self.n_images + len(self.texts)

    def __getitem__(self, index: int) -> Any:
        """Return an image or a text."""
        if index < self.n_images:
            return self.images[index]
        return self.texts[index - self.n_images]

    def identity(self) -> dict[str, Any]:
        """Return the identities of both."""
        images, texts = self.images.identity(), self.texts.identity()
        return {"name": f"{images['name']}-{texts['name']}", "images": images, "texts": texts}


def _known(factors: Mapping[str, tuple[list[str], Tensor]], name: str, examples: ImageSet) -> Tensor:
    return factors[name][1] if name in factors else torch.full((len(examples),), -1)


class JointSource:
    """Splits of images and texts together.

    Args:
        images: the images.
        texts: the texts.
    """

    def __init__(self, images: ImageSource, texts: ImageSource) -> None:
        self.images, self.texts = images, texts

    def split(self, name: Split) -> JointExamples:
        """Return both of one split."""
        return JointExamples(self.images.split(name), self.texts.split(name))


class JointStore(ActivationStore):
    """Several stores of one width and one token per example as one, with the rows of one after the other.

    Args:
        parts: the stores.
    """

    def __init__(self, parts: Sequence[ActivationStore]) -> None:
        self.folder = parts[0].folder
        self.layout = Layout(sum(part.layout.n_images for part in parts), 1, parts[0].layout.d_in)
        self.statistics = Moments.union(_moments(part.statistics) for part in parts).statistics()
        held = [part.x for part in parts if part.x is not None]
        self.x = torch.cat(held) if len(held) == len(parts) else None
        self._shards = [] if self.x is not None else _behind_each_other(parts)


def _moments(statistics: ActivationStatistics) -> Moments:
    """Return the moments that statistics were made of: `scale^2 = d n / spread`."""
    mean = statistics.mean.double()
    spread = len(mean) * statistics.n_tokens / statistics.scale**2
    return Moments(statistics.n_tokens, mean, spread)


def _behind_each_other(parts: Sequence[ActivationStore]) -> list[tuple[int, Tensor]]:
    shards, start = [], 0
    for part in parts:
        own = part._shards if part.x is None else [(0, part.x.cpu())]
        shards += [(start + first, rows) for first, rows in own]
        start += len(part)
    return shards


class JointDataModule(ActivationDataModule):
    """The final embeddings of images and of texts, as CLIP gives them before their unit length.

    Each of the two is captured into a store of its own, which other runs share. Both are scored against the
    prompts of the classes.

    Args:
        images: the images.
        texts: the texts.
        clip: the audited CLIP.
        judge: the CLIP that names latents; `None` is the audited CLIP itself, with a warning.
        **activations: the other arguments of `ActivationDataModule`, but for `hook_point` and `tokens`.

    Raises:
        ValueError: several hook points: the towers share no other space.
    """

    def __init__(
        self,
        images: ImageSource,
        texts: ImageSource,
        clip: Clip,
        judge: Clip | None = None,
        **activations: Any,
    ) -> None:
        if activations.get("hook_points"):
            raise ValueError("images and texts share the final embedding alone: leave hook_points out")
        super().__init__(JointSource(images, texts), clip, "visual", "pooled", judge, **activations)
        self._parts = [
            ActivationDataModule(images, clip, "visual", "pooled", judge, **activations),
            ActivationDataModule(
                texts, TextClip(clip), FINAL_TEXT, "pooled", judge and TextClip(judge), **activations
            ),
        ]

    def images(self, split: Split) -> ImageSet:
        """Return the images and texts of a split, once captured without the bad ones."""
        images, texts = (part.images(split) for part in self._parts)
        return JointExamples(images, texts)

    @property
    def parts(self) -> list[ActivationDataModule]:
        """Images and texts by themselves."""
        for part in self._parts:
            part.trainer, part.processes = self.trainer, self.processes
        return self._parts

    def to(self, device: torch.device) -> Self:
        """Move both."""
        for part in self._parts:
            part.to(device)
        return super().to(device)

    def check(self) -> None:
        """Warn where CLIP is its own judge."""
        self.parts[0].check()

    def captures(self) -> dict[str, Capture]:
        """Return what belongs into the stores of both."""
        both = zip(("images", "texts"), self.parts, strict=True)
        return {f"{kind}, {name}": item for kind, part in both for name, item in part.captures().items()}

    def fill(self) -> None:
        """Capture what the stores lack of both."""
        for part in self.parts:
            part.fill()

    def capture(self, split: Split) -> Path:
        """Capture what the stores lack of one split of both, and return the folder of the images."""
        images, _ = (part.capture(split) for part in self.parts)
        return images

    def setup(self, stage: str) -> None:
        """Read both stores, and move everything to the trainer's device."""
        self.agree()
        for part in self.parts:
            part.setup(stage)
        first = self._parts[0]
        self.store = JointStore([part.store for part in self._parts])
        self.statistics = self.store.statistics
        self.tail = make_tail(self.clip, self.hook)
        self.class_embeddings, self.probe = first.class_embeddings, first.probe
        self.judge_embeddings = torch.cat([part.judge_embeddings for part in self._parts])

    def provenance(self) -> dict[str, Any]:
        """Return what a saved autoencoder is valid for: both towers' final embedding."""
        return super().provenance() | {"hook_point": f"{self.hook.module}, {FINAL_TEXT}"}

    def _open(self, split: Split, hook: HookPoint) -> ActivationStore:
        return JointStore([part._open(split, part.hook) for part in self._parts])

    def _eval_loader(self, split: Split) -> EvalLoader:
        embeddings = torch.cat([part._eval_loader(split).embeddings for part in self._parts])
        return EvalLoader(
            self._open(split, self.hook),
            self._targets(split),
            embeddings,
            self.eval_batch_size,
            *self._rank,
            self._device,
        )
