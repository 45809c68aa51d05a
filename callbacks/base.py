"""What the callbacks of a validation pass share: the pass itself, and what they give each other."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self, TypeVar, cast

import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_sae.attribution.explained import Explained, PassImages, probe_images
from lightning_sae.attribution.means import ClassAttribution
from lightning_sae.attribution.reliance import ClassReliance
from lightning_sae.baselines.comparison import BaselineTable
from lightning_sae.baselines.module import BaselineModule
from lightning_sae.baselines.terms import Terms
from lightning_sae.classifiers.comparison import ProbeComparison
from lightning_sae.concepts.concept_labels import ConceptLabels
from lightning_sae.data import ActivationDataModule
from lightning_sae.metrics import ImageLatents
from lightning_sae.sae import SparseAutoencoder
from lightning_sae.training.module import SAEModule
from lightning_sae.types import SparseLatents, ValidationOutput

GIVERS: dict[type, str] = {
    ConceptLabels: "alignment",
    ClassAttribution: "attribution",
    ClassReliance: "reliance",
    ProbeComparison: "probe_vs_prompt",
    BaselineTable: "baselines",
}
"""Result -> the callback of the default configuration that gives it."""

T = TypeVar("T")


class Pass:
    """A validation pass: its parts with their types, its images, and what the callbacks give each other.

    Args:
        trainer: that validates.
        pl_module: an `SAEModule`, or a baseline in its place.
        collects: whether the latents of all images are collected.

    Attributes:
        trainer: that validates.
        module: autoencoder and metrics.
        data: images, CLIP, judge and probe.
        fitting: whether the pass is part of a training.
        is_last: whether it closes the training, as far as is known (`FinalValidation`).
        results: type of a result -> what its giver found in this pass.
    """

    def __init__(
        self, trainer: Trainer, pl_module: LightningModule | BaselineModule, collects: bool = False
    ) -> None:
        self.trainer = trainer
        self.module = cast(SAEModule, pl_module)
        self.data = cast(ActivationDataModule, trainer.datamodule)  # type: ignore[attr-defined]
        self.fitting = trainer.state.fn == "fit"
        self.is_last = trainer.should_stop or trainer.global_step == trainer.max_steps
        self.results: dict[type, Any] = {}
        self._collected = ImageLatents(self.sae.d_sae).to(self.module.device) if collects else None

    def beside(self, baseline: BaselineModule) -> "Pass":
        """Return a pass of a baseline over the same images, outside of the training."""
        other = Pass(self.trainer, baseline, collects=True)
        other.fitting = False
        return other

    @property
    def sae(self) -> SparseAutoencoder:
        """The autoencoder."""
        return self.module.sae

    @property
    def decoder(self) -> Tensor:
        """`W_dec [d_sae, d_in]` in float32, as CLIP works, whatever the precision of the training."""
        return self.sae.W_dec.detach().float()

    @property
    def top_ids(self) -> Tensor:
        """`[d_sae, top_n]` ids of each latent's top images, -1 for none; on all ranks or on none."""
        ids: Tensor = self.module.top_images.compute()[1]
        return ids

    @property
    def latents(self) -> tuple[SparseLatents, Tensor]:
        """The latents of all `n` images and their ids `[n]`, ascending, in `finish`; on all ranks or on none.

        Raises:
            ValueError: no callback `needs_latents`, or the pass is over.
        """
        if self._collected is None:
            raise ValueError("no latents are collected: set needs_latents, and ask for them in finish")
        return self._collected.latents()

    @property
    def closed_form(self) -> bool:
        """True if the tail needs only the selected token: `add` then gets all images, otherwise the probe."""
        return self.data.tail.needs == "nothing"

    def get(self, kind: type[T]) -> T | None:
        """Return the result of a type, or `None` where no callback has given it in this pass."""
        return self.results.get(kind)

    def __getitem__(self, kind: type[T]) -> T:
        """Return the result of a type.

        Raises:
            ValueError: no callback has given it in this pass; one with `every` above 1 skips passes.
        """
        if (result := self.get(kind)) is None:
            raise ValueError(f"no {kind.__name__} in this pass: its giver has to run in every one, every=1")
        return result

    def batch_images(self, outputs: ValidationOutput) -> PassImages:
        """Return the images of a validation batch, one token per image."""
        x, x_hat, latents, ids, targets, embeddings = outputs
        explained = Explained(
            self.data.tail, self.decoder, x[:, None], x_hat[:, None], latents, image_ids=ids
        )
        return PassImages(explained, ids, targets, embeddings)

    def probe_images(self) -> Iterator[PassImages]:
        """Return this rank's share of the probe images."""
        return probe_images(self.data, self.sae, self.trainer.global_rank, self.trainer.world_size)

    def all_images(self) -> Iterator[PassImages]:
        """Yield the images that `add` got once more, for use in `finish`.

        Where the tail is a closed form, they are made from the collected latents.
        """
        if not self.closed_form:
            yield from self.probe_images()
            return
        latents, ids = self.latents
        for batch in self.trainer.val_dataloaders:  # type: ignore[union-attr]
            ends = batch.image_ids[[0, -1]].to(ids) + torch.tensor([0, 1]).to(ids)
            start, stop = torch.searchsorted(ids, ends).tolist()
            if stop - start == len(batch.x):  # else the pass ended before
                x, image_ids, targets, embeddings = (part.to(ids.device) for part in batch[:4])
                mine = latents.slice(start, stop)
                x_hat = self.sae.decode(mine, x).float()
                yield self.batch_images(ValidationOutput(x, x_hat, mine, image_ids, targets, embeddings))

    def latent_table(self) -> pd.DataFrame:
        """Return what all callbacks know about each latent that fired, a row each; on all ranks or on none.

        The columns are `latent`, `density` and those of every callback that has `latent_columns()`.
        """
        density = self.module.density.cpu()
        columns: dict[str, Sequence[Any]] = {"latent": range(len(density)), "density": density.tolist()}
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if hasattr(callback, "latent_columns"):
                columns |= callback.latent_columns()
        table = pd.DataFrame(columns)
        return table[table["density"] > 0].copy()

    def collect(self, outputs: ValidationOutput) -> None:
        """Keep the latents of a validation batch, if any callback needs them."""
        if self._collected is not None:
            self._collected.update(outputs.latents, outputs.image_ids)

    def forget(self) -> None:
        """Give the memory of the collected latents back."""
        self._collected = None


class PassCallback(Callback):
    """A callback of the validation pass: `begin`, `add` or `add_batch` some at a time, `finish`, `report`.

    All pass callbacks of a trainer share one `Pass`, which the first of them makes anew for every pass. A
    sanity check is no pass. Every hook runs on every rank.

    Attributes:
        needs: types of results that callbacks listed before have to give.
        uses: types of results that `finish` takes if a callback gives them, which must then be listed before.
        gives: type of what `finish` returns.
        needs_latents: whether it asks for the latents of all images.
        logs: patterns of the keys that it logs, not inherited. A class without patterns of its own may log
            any key, and a misspelt `monitor` is then found only at the first pass.
        every: passes of a training from one turn to the next; 0: only its last. The last pass of a training,
            as far as it is known to be the last, and any pass outside of a training are always a turn.
        passes: number of passes of the training so far, kept in its checkpoints.
        current: the running or last pass; `None` before the first.
    """

    needs: ClassVar[tuple[type, ...]] = ()
    uses: ClassVar[tuple[type, ...]] = ()
    gives: ClassVar[type | None] = None
    needs_latents: ClassVar[bool] = False
    logs: ClassVar[Sequence[str]]
    every: int = 1
    passes: int = 0
    current: Pass | None = None
    _turn: Pass | None = None  # the running pass, if it is its turn

    def begin(self, pass_: Pass) -> None:
        """Start a pass."""

    def add(self, pass_: Pass, images: PassImages) -> None:
        """Take some images: each validation batch where the tail is a closed form, else this rank's probe."""

    def add_batch(self, pass_: Pass, outputs: ValidationOutput) -> None:
        """Take a validation batch, token by token."""

    def finish(self, pass_: Pass) -> Any:
        """End the pass: log, and return an instance of `gives`."""

    def report(self, pass_: Pass) -> None:
        """Write files and tables: all callbacks have finished, and every result is there."""

    def baseline(self) -> Self | None:
        """Return a fresh copy that measures a baseline by the same code; `None` if it cannot measure one."""
        return None

    def terms(self) -> Mapping[str, Terms]:
        """Return the terms of the logged numbers of the last turn: key -> terms.

        Each number is the mean or the sum of its terms, which are the same on every rank.
        """
        return {}

    def log_terms(self, pass_: Pass) -> None:
        """Log the number of each of its terms."""
        pass_.module.log_dict({key: term.number for key, term in self.terms().items()})

    def shuffled_terms(self, pass_: Pass, seed: int) -> Mapping[str, Terms]:
        """Return the terms that the numbers would have if the latents had each other's labels.

        It is called in or after `finish`.
        """
        return {}

    @property
    def name(self) -> str:
        """The name of this callback in the configuration."""
        return type(self).__module__.removeprefix("callbacks.")

    def is_turn(self, pass_: Pass, every: int) -> bool:
        """Return whether a pass is a turn for work that is done in each `every`-th pass of a training."""
        return not pass_.fitting or pass_.is_last or (every > 0 and self.passes % every == 0)

    def check_order(self, trainer: Trainer) -> None:
        """Refuse an order in which a result is taken before it is given, or two callbacks that give it.

        Raises:
            ValueError: names both callbacks.
        """
        everyone = pass_callbacks(trainer)
        given, before = (
            {callback.gives: callback.name for callback in callbacks if callback.gives is not None}
            for callbacks in (everyone, everyone[: everyone.index(self)])
        )
        for kind in (*self.needs, *(kind for kind in self.uses if kind in given)):
            if kind not in before:
                giver = (GIVERS | given).get(kind, "NAME")
                raise ValueError(
                    f"callbacks.{self.name} needs {kind.__name__}, which callbacks.{giver} gives: list it "
                    f"before, or leave {self.name} out with ~callbacks.{self.name}"
                )
        if self.gives in before:
            raise ValueError(
                f"callbacks.{before[self.gives]} and callbacks.{self.name} both give {self.gives.__name__}: "
                f"leave one out, as with ~callbacks.{self.name}"
            )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse an order in which a result is missing."""
        self.check_order(trainer)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a pass that is its turn."""
        self.current = self._turn = None
        if trainer.sanity_checking:
            return
        everyone = pass_callbacks(trainer)
        first = everyone[0]
        if first is self:
            self.current = Pass(trainer, pl_module, any(callback.needs_latents for callback in everyone))
        pass_ = self.current = cast(Pass, first.current)
        self.passes += pass_.fitting
        if self.is_turn(pass_, self.every):
            self._turn = pass_
            self.begin(pass_)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: ValidationOutput,  # type: ignore[override]
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Hand the batch on."""
        if self.current is not None and pass_callbacks(trainer)[0] is self:
            self.current.collect(outputs)
        if self._turn is not None:
            self.take(self._turn, outputs)

    def take(self, pass_: Pass, outputs: ValidationOutput) -> None:
        """Hand a batch to `add_batch`, and its images to `add` where the tail is a closed form."""
        self.add_batch(pass_, outputs)
        if self._takes_images() and pass_.closed_form:
            self.add(pass_, pass_.batch_images(outputs))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the pass."""
        if self._turn is not None:
            self.close(self._turn)

    def close(self, pass_: Pass) -> None:
        """Hand the probe to `add` where batches are not enough, and keep the result for later callbacks."""
        if self._takes_images() and not pass_.closed_form:
            for images in pass_.probe_images():
                self.add(pass_, images)
        result = self.finish(pass_)
        if self.gives is not None and not isinstance(result, self.gives):
            found = type(result).__name__
            raise TypeError(f"callbacks.{self.name} gives {self.gives.__name__}, but finish returned {found}")
        if self.gives is not None:
            pass_.results[self.gives] = result

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report; the latents are forgotten."""
        if self.current is not None:
            self.current.forget()
        if self._turn is not None:
            self.report(self._turn)

    def state_dict(self) -> dict[str, Any]:
        """Return how many passes there were."""
        return {"passes": self.passes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.passes = state_dict["passes"]

    def had_turn(self, pass_: Pass) -> bool:
        """Return whether a pass is or was its turn."""
        return self._turn is pass_

    def _takes_images(self) -> bool:
        return type(self).add is not PassCallback.add


def pass_callbacks(trainer: Trainer) -> list[PassCallback]:
    """Return the callbacks of the pass, in their order."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, PassCallback)]
