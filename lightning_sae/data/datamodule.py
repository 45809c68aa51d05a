"""The datamodule: images, CLIP, the judge, and the store of activations."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import torch
from lightning import LightningDataModule
from torch import Tensor

from lightning_sae.clip import (
    Clip,
    HookPoint,
    HookShape,
    Tail,
    TokenRule,
    Tokens,
    check_path,
    check_same_tokens,
    clip_titles,
    inspect_hook_point,
    make_tail,
    short_names,
)
from lightning_sae.data.capture.capture import Capture
from lightning_sae.data.earlier import EarlierActivations
from lightning_sae.data.images.class_names import check_distinct, check_words
from lightning_sae.data.images.copies import check_leaks
from lightning_sae.data.images.decoding import WHITE
from lightning_sae.data.images.image_set import ImageSet, ImageSource, Split, digest
from lightning_sae.data.loading.loaders import EvalLoader, TrainLoader
from lightning_sae.data.probe_images import ProbeImages, cached_probe, choose_probe
from lightning_sae.data.prompts import class_prompts, embed_prompts
from lightning_sae.data.store.activations import ActivationStore
from lightning_sae.data.store.captured_splits import CapturedSplits, Decode
from lightning_sae.data.store.layout import (
    check_data,
    check_provenance,
    data_identity,
    hook_folder,
    provenance,
)
from lightning_sae.data.store.shards import read_tensor
from lightning_sae.data.store.space import check_space
from lightning_sae.devices.device import find_device
from lightning_sae.metrics.moments import ActivationStatistics
from lightning_sae.trust.control_characters import warn
from lightning_sae.trust.numbers import check_counts, check_numbers


class ActivationDataModule(LightningDataModule):
    """Activations of one hook point of one CLIP on one data set.

    `prepare_data` captures what the store lacks; of several processes, each captures its share in `setup`.
    `setup` then reads the store and moves CLIP, judge, probe and embeddings to the trainer's device. The
    attributes below are there after both.

    Args:
        images: the data set.
        clip: the audited CLIP.
        hook_point: path of a module inside the open_clip model.
        tokens: which tokens of it: `cls`, `patch`, `all` or `pooled`, or a rule of your own.
        hook_points: several of one tower, from the first to the last, each trained on the same tokens; the
            last takes the place of `hook_point`.
        judge: the CLIP that names latents; `None` is the audited CLIP itself, with a warning.
        templates: prompts of a class, `{}` is its name.
        prompts_file: JSON or YAML, `{class: [prompt, ...]}`, instead of templates.
        store_dir: root of all stores; `None` is the user's cache folder.
        dtype: type of stored activations, `float32` or `float16`.
        shard_images: images per file of the store.
        memory_limit_gb: largest size of a split's activations, in 10^9 bytes, that is held on a GPU and whose
            bytes are checked when it is opened.
        also_capture: further hook points to capture in the same pass, for a sweep over layers.
        batch_size: activations per training batch and process.
        eval_batch_size: activations per validation batch.
        capture_batch_size: images per pass of CLIP.
        num_workers: processes that decode images during capture; `None` is one per core that the
            model leaves; processes that capture on one machine share its cores.
        decode: `fast` takes large JPEG files at a fraction of their size (`DecodedImages`), into a store of
            its own: activations change.
        tokens_per_image: random tokens that are kept of each image of `train` (`kept_tokens`); `None` keeps
            all. `val`, `test` and the probe keep all: validation and attribution look at whole images.
        background: colour that transparent pictures are laid on, a name or `#rrggbb`; another than white has
            a store of its own.
        max_bad_images: images of a split that may be left out because they cannot be decoded, a count, or a
            share below 1; more than that stop the capture.
        max_leaks: images of a split whose files a split before it has as well, a count, or a share below 1;
            more than that are refused before anything is captured.
        n_probe: images of `val` on which the later part of CLIP is run.
        seed: of shuffling, and of the activations that a training starts from.
        probe_seed: of the choice of the probe.

    Attributes:
        clip: the audited CLIP.
        judge: the CLIP that names latents.
        judge_independent: whether the judge has other weights than the audited CLIP.
        hook: the hook point with its token rule.
        earlier: the hook points before it that are trained on beside, by their short names, in order.
        store: activations of `train`.
        statistics: mean and scale of the activations of `train`.
        prompts: prompts of each class.
        class_embeddings: `[n_classes, d_embed]` unit, their mean by the audited CLIP.
        judge_embeddings: `[n_val_images, d_judge]` unit, images of `val` as the judge sees them.
        probe: the probe images.
        tail: from the hook point to the final embedding.
        processes: of this machine that capture at the same time without a trainer, and share its cores.
        agree: called in `setup` before anything is captured: several processes compare what they are on.

    Raises:
        ValueError: a number out of its range, classes that prompts cannot tell apart, hook points that the
            examples never reach, or that are not different ones, or a judge with random weights.
    """

    store: ActivationStore
    statistics: ActivationStatistics
    class_embeddings: Tensor
    judge_embeddings: Tensor
    probe: ProbeImages
    tail: Tail

    def __init__(
        self,
        images: ImageSource,
        clip: Clip,
        hook_point: str,
        tokens: Tokens | TokenRule = "cls",
        judge: Clip | None = None,
        hook_points: Sequence[str] | None = None,
        templates: Sequence[str] = ("a photo of a {}",),
        prompts_file: str | None = None,
        store_dir: str | None = None,
        dtype: Literal["float32", "float16"] = "float32",
        shard_images: int = 1024,
        memory_limit_gb: float = 8.0,
        also_capture: Sequence[str] = (),
        batch_size: int = 1024,
        eval_batch_size: int = 1024,
        capture_batch_size: int = 256,
        num_workers: int | None = None,
        decode: Decode = "exact",
        tokens_per_image: int | None = None,
        background: str = WHITE,
        max_bad_images: float = 0,
        max_leaks: float = 0,
        n_probe: int = 512,
        seed: int = 0,
        probe_seed: int = 0,
    ) -> None:
        super().__init__()
        check_counts(
            1,
            shard_images=shard_images,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            capture_batch_size=capture_batch_size,
            tokens_per_image=tokens_per_image,
            n_probe=n_probe,
        )
        check_counts(0, num_workers=num_workers)
        check_numbers(memory_limit_gb=memory_limit_gb, max_bad_images=max_bad_images, max_leaks=max_leaks)
        modules = [hook_point] if hook_points is None else _different(hook_points)
        *before, self.hook = hooks = [HookPoint(module, str(tokens)) for module in modules]
        for hook in hooks:
            if hook.is_text != clip.reads_texts:
                raise ValueError(
                    f"the data are {'texts' if clip.reads_texts else 'images'}, which never reach "
                    f"{hook.module}: take a hook_point in `visual` for images, and data such as "
                    "world_captions for the text tower"
                )
        self.clip, self.judge = clip, judge or clip
        if self.judge.random_seed is not None:
            raise ValueError(
                "the judge of what latents mean has to have learned something, got "
                f"{clip_titles(self.judge)[0]}: name the CLIP that the random one stands for with "
                "clip@data.judge=open_clip data.judge.model=MODEL data.judge.pretrained=TAG"
            )
        self.earlier = {
            name: EarlierActivations(clip, hook, seed, eval_batch_size)
            for name, hook in zip(short_names(modules)[:-1], before, strict=True)
        }
        self._captured = [self.hook, *before, *(self.hook._replace(module=module) for module in also_capture)]
        self._splits = CapturedSplits(images, store_dir, decode, background)
        self.prompts = class_prompts(self.class_names, templates, prompts_file)
        check_distinct(self.class_names, self.prompts, clip.tokenizer)
        if prompts_file is None:
            check_words(self.class_names)
        self.max_leaks = max_leaks
        self.store_dir, self.dtype, self.shard_images = store_dir, dtype, shard_images
        self.memory_limit_gb = memory_limit_gb
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.capture_batch_size = capture_batch_size
        self.num_workers, self.seed = num_workers, seed
        self.n_probe, self.probe_seed = n_probe, probe_seed
        self.tokens_per_image, self.max_bad_images = tokens_per_image, max_bad_images
        self.processes = 1
        self.agree: Callable[[], None] = lambda: None
        self._chosen: torch.device | None = None

    def to(self, device: torch.device) -> Self:
        """Move CLIP and judge; what is captured and read from now on is on this device as well.

        For use without a trainer, which has a device of its own. Without either it is `find_device("auto")`.
        """
        self._chosen = device
        self.clip.to(device)
        self.judge.to(device)
        return self

    def __str__(self) -> str:
        """Return the data, the CLIP and the hook points in a line; Lightning's own would read batches."""
        hooks = ", ".join(map(str, self.hook_points))
        return f"{self.images('val').identity()['name']} by {clip_titles(self.clip)[0]} at {hooks}"

    @cached_property
    def judge_independent(self) -> bool:
        """True if labels come from other weights than the audited ones."""
        return self.judge.identity()["weights"] != self.clip.identity()["weights"]

    @cached_property
    def shape(self) -> HookShape:
        """Tokens per image and width at the hook point; refuses one that cannot influence the score."""
        return inspect_hook_point(self.clip, self.hook)

    @property
    def d_in(self) -> int:
        """Width of the activations."""
        return self.shape.d_in

    @property
    def class_names(self) -> list[str]:
        """Names of the classes."""
        return self._splits.whole("val").class_names

    def images(self, split: Split) -> ImageSet:
        """Return the images of a split, once captured without its bad ones; image ids index them."""
        return self._splits.good(split, self.clip)

    @property
    def background(self) -> str:
        """The colour that is put under transparent pictures."""
        return self._splits.background

    @property
    def judge_folder(self) -> Path:
        """The folder of the judge's view of `val`, and of what is computed from it once and for all runs."""
        return self._splits.folder("val", self.judge)

    def prepare_data(self) -> None:
        """Capture what the store lacks, unless several processes are to do it in `setup`."""
        self.check()
        if self._rank[1] == 1:
            self.fill()

    @property
    def hook_points(self) -> list[HookPoint]:
        """All hook points that are trained on, in order; `hook` is last."""
        return [*(each.hook for each in self.earlier.values()), self.hook]

    @property
    def modules(self) -> list[str]:
        """Module paths of all hook points that are trained on, in order; that of `hook` is last."""
        return [hook.module for hook in self.hook_points]

    def check(self) -> None:
        """Refuse dead hook points, and before a capture also leaks and text towers of NaN.

        A CLIP that is its own judge is warned of.
        """
        for hook in self._captured:
            inspect_hook_point(self.clip, hook)  # refuse before hours of capture
        self.check_hook_points()
        if not all(capture.complete for capture in self.captures().values()):
            self._check_leaks("train", "val")
            for clip in (self.clip, self.judge):
                clip.encode_text(["a photo"])  # refuses a text tower of NaN
        if not self.judge_independent:
            warn(
                f"the audited CLIP also judges what its latents mean, {clip_titles(self.clip)[0]}: a bias of "
                "its own stays hidden. Name another with clip@data.judge=open_clip data.judge.model=MODEL "
                "data.judge.pretrained=TAG",
                stacklevel=3,
            )

    def check_hook_points(self) -> None:
        """Refuse hook points that cannot be trained on together; nothing is captured yet.

        Raises:
            ValueError: as `check_path` and `check_same_tokens`.
        """
        if self.earlier:
            check_path(self.clip, self.hook_points)
            check_same_tokens(self.clip, self.hook_points)

    def _check_leaks(self, *splits: Split) -> None:
        check_leaks({split: self._splits.whole(split) for split in splits}, self.max_leaks)

    def captures(self) -> dict[str, Capture]:
        """Return what belongs into the store: `train`, `val`, and the judge's view of `val`."""
        captures = {split: self._capture(self.clip, split, self._captured) for split in ("train", "val")}
        if self.judge is not self.clip:
            captures["judge"] = self._capture(self.judge, "val", ())
        return captures

    def fill(self) -> None:
        """Capture what the store lacks, together with all processes that do the same."""
        captures = self.captures()
        if not all(capture.complete for capture in captures.values()):
            check_space(captures.values(), self.dtype)
        for capture in captures.values():
            capture.fill()
        self.probe = self._probe()

    def capture(self, split: Split) -> Path:
        """Capture what the store lacks of one split, and return the folder it lies in."""
        capture = self._capture(self.clip, split, self._captured)
        if split == "test" and not capture.complete:
            self._check_leaks("train", "val", "test")
        return capture.fill()

    def judge_view(self, split: Split) -> Tensor:
        """Return the unit embeddings `[n, d_judge]` that the judge has of a split's images.

        The embeddings are captured if the store lacks them.
        """
        own = self.judge is self.clip
        folder = self.capture(split) if own else self._capture(self.judge, split, ()).fill()
        return read_tensor(folder / "images", "embeddings")

    def setup(self, stage: str) -> None:
        """Capture what is still missing, read the store, and move everything to the trainer's device."""
        self.agree()
        self.clip.to(self._device)
        self.judge.to(self._device)
        self.fill()
        self.store = self._open_train(self.hook, self.d_in)
        for each in self.earlier.values():
            each.store = self._open_train(each.hook, each.d_in)
        self.statistics = self.store.statistics
        self.tail = make_tail(self.clip, self.hook)
        self.class_embeddings = self._embed_classes().float().to(self._device)
        self._splits.check_same("val", self.clip, self.judge)
        self.judge_embeddings = read_tensor(self.judge_folder / "images", "embeddings").to(self._device)
        self.probe = self.probe.to(self._device)

    def look_at(self, images: ImageSet) -> ProbeImages:
        """Return images that are in no split in the form of the probe, on the same device.

        CLIP runs on them once: they are kept in the store, by their identity.
        """
        name = f"{images.identity()['name']}-{digest(images.identity())[:16]}"
        path, ids = self._hook_folder("val", self.hook) / f"{name}.safetensors", torch.arange(len(images))
        found = cached_probe(path, images, self.clip, self.hook, ids, self.capture_batch_size)
        return found.to(self._device)

    def train_dataloader(self) -> TrainLoader:
        """Return the shuffled batches; they resume in the middle of a pass."""
        targets, earlier = self._targets("train"), [each.store for each in self.earlier.values()]
        return TrainLoader(
            self.store, targets, self.batch_size, self.seed, *self._rank, self._device, earlier
        )

    def val_dataloader(self) -> EvalLoader:
        """Return the batches of `val` in image order, with embeddings."""
        return self._eval_loader("val")

    def test_dataloader(self) -> EvalLoader:
        """Return the batches of `test` in image order, with embeddings; captured if the store lacks it."""
        self.capture("test")
        return self._eval_loader("test")

    def train_batches(self) -> Iterator[Tensor]:
        """Return one plain pass over the activations of `train`, `[n, d_in]` float32."""
        return self.store.batches(self.eval_batch_size)

    def sample(self, n: int) -> Tensor:
        """Return random activations of `train`, `[min(n, rows), d_in]` float32.

        The same seed gives the same activations.
        """
        return self.store.sample(n, self.seed)

    def provenance(self) -> dict[str, Any]:
        """Return what a saved autoencoder is valid for."""
        return provenance(self.clip, self.hook)

    def data_identity(self) -> dict[str, str]:
        """Return what identifies the images of `train` and `val` (`layout.data_identity`) and the prompts."""
        images = data_identity({split: self._splits.decoded(split, self.clip) for split in ("train", "val")})
        return images | {"prompts": digest(self.prompts)}

    def state_dict(self) -> dict[str, Any]:
        """Return the activations that it is trained on, their images and the seed of the order."""
        return {**self._trained_on(), "data": self.data_identity(), "seed": self.seed}

    def _trained_on(self) -> dict[str, Any]:
        return self.provenance() | ({"hook_points": self.modules} if self.earlier else {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse a checkpoint as `check_checkpoint`."""
        self.check_checkpoint(state_dict, self.trainer is not None and self.trainer.state.fn == "fit")

    def check_checkpoint(self, then: Mapping[str, Any], goes_on: bool) -> None:
        """Refuse a checkpoint that was trained on other activations.

        Args:
            then: the `state_dict` in it.
            goes_on: whether the training goes on from it, and so has to find the images that it began with,
                in the same order.

        Raises:
            ValueError: weights or preprocessing of CLIP, hook point or token rule differ, or the images, or
                the seed; names them.
        """
        check_provenance(then, self._trained_on())
        if goes_on:
            check_data(then["data"], self.data_identity())
            if then["seed"] != self.seed:
                raise ValueError(
                    f"the checkpoint has its place in the order of data.seed={then['seed']}, and this run "
                    f"has data.seed={self.seed}: set it as it was, or start a new training without ckpt_path"
                )

    @property
    def _device(self) -> torch.device:
        if self.trainer is not None:
            return self.trainer.strategy.root_device
        return self._chosen or find_device()

    @property
    def _rank(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    @property
    def _processes(self) -> int:
        return self.processes if self.trainer is None else self.trainer.num_devices

    def _folder(self, split: Split) -> Path:
        return self._splits.folder(split, self.clip)

    def _hook_folder(self, split: Split, hook: HookPoint) -> Path:
        return hook_folder(self._folder(split), hook, self._tokens_per_image(split))

    def _tokens_per_image(self, split: Split) -> int | None:
        return self.tokens_per_image if split == "train" else None

    def _capture(self, clip: Clip, split: Split, hook_points: Sequence[HookPoint]) -> Capture:
        return Capture(
            self._splits.decoded(split, clip),
            clip.to(self._device),
            hook_points,
            store_dir=self.store_dir,
            dtype=self.dtype,
            batch_size=self.capture_batch_size,
            shard_images=self.shard_images,
            num_workers=self.num_workers,
            tokens_per_image=self._tokens_per_image(split),
            max_bad_images=self.max_bad_images,
            processes=self._processes,
        )

    def _probe(self) -> ProbeImages:
        images = self.images("val")
        path = self._hook_folder("val", self.hook) / f"probe-{self.n_probe}-{self.probe_seed}.safetensors"
        ids = choose_probe(images.targets, self.n_probe, self.probe_seed)
        return cached_probe(path, images, self.clip, self.hook, ids, self.capture_batch_size)

    def _open(self, split: Split, hook: HookPoint) -> ActivationStore:
        return ActivationStore(self._hook_folder(split, hook), self.memory_limit_gb, self._device)

    def _open_train(self, hook: HookPoint, d_in: int) -> ActivationStore:
        store, tokens = self._open("train", hook), self.tokens_per_image or self.shape.tokens
        if store.layout[1:] != (tokens, d_in):
            raise ValueError(
                f"the store {store.folder} holds {store.layout}, {hook} gives {tokens} tokens of width {d_in}"
            )
        return store

    def _embed_classes(self) -> Tensor:
        """Return what examples are scored against, `[n_classes, d_embed]`."""
        return embed_prompts(self.clip, self.prompts)

    def _targets(self, split: Split) -> Tensor:
        return self.images(split).targets

    def _eval_loader(self, split: Split) -> EvalLoader:
        embeddings = read_tensor(self._folder(split) / "images", "embeddings")
        return EvalLoader(
            self._open(split, self.hook),
            self._targets(split),
            embeddings,
            self.eval_batch_size,
            *self._rank,
            self._device,
            [self._open(split, each.hook) for each in self.earlier.values()],
        )


def _different(hook_points: Sequence[str]) -> list[str]:
    """Return the hook points as a list; refuse an empty list, and one that names a hook point twice."""
    if isinstance(hook_points, str) or not hook_points:
        raise ValueError(f"hook_points must be a list, as [FIRST,LAST], got {hook_points!r}")
    if len({*hook_points}) < len(hook_points):
        raise ValueError(f"hook_points must be different ones, got {', '.join(hook_points)}")
    return list(hook_points)
