"""Text prompts beside linear probes on the same embeddings: what each of them relies on, and how it fares."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.attribution import Attribution
from callbacks.image_pass import ImagePassCallback, Images
from callbacks.parts import data_of, decoder_of, find, is_last_pass, sae_of
from callbacks.reliance import UnexpectedReliance
from lightning_sae.attribution.gradient import attribute, gradient
from lightning_sae.attribution.means import MeanAttribution
from lightning_sae.attribution.reliance import unexpected_reliance
from lightning_sae.audit.verdict.sides import TELLS
from lightning_sae.classifiers.biased_sets import (
    biased_sample,
    biased_shares,
    culprit_shares,
    largest_sample,
    most_associated,
    occurring,
)
from lightning_sae.classifiers.linear import LinearClassifier, fit_probe
from lightning_sae.classifiers.scores import ClassScores, Output
from lightning_sae.data import ActivationDataModule, Split, store_folder
from lightning_sae.data.store.shards import read_tensor
from lightning_sae.metrics import ImageLatents, sparse_auroc
from lightning_sae.metrics.accuracy import accuracy, worst_group
from lightning_sae.metrics.group_errors import Groups, factor_groups
from lightning_sae.report.figures import save_figure
from lightning_sae.report.probe_picture import draw_comparison
from lightning_sae.tracking.publish import publish_picture, publish_table, run_dir

MEASURES = ("accuracy", "worst_group", "unexpected_share", "paired_unexpected_share", "culprit_share")


class _Contender(NamedTuple):
    """One classifier, and what is summed up about it in a pass.

    Attributes:
        name: `prompt`, or `probe_` and the share in percent.
        share: of the paired images it was fitted on; `None` for prompts.
        images: that it was fitted on.
        scores: of the classes.
        means: attribution, over the images predicted as each class.
        predicted: `[n_val]`, -1 for an image that was not seen.
    """

    name: str
    share: float | None
    images: int
    scores: ClassScores
    means: MeanAttribution
    predicted: Tensor


class ProbeVsPrompt(ImagePassCallback):
    """Compares zero-shot prompts with linear probes, fitted on train images of growing bias.

    In a biased train set the *paired* classes go with a value of a factor: `share` of their images have it,
    and as good as none of the other classes' (`lightning_sae.classifiers.biased_sets`). It needs the
    callbacks Attribution, for the score, and UnexpectedReliance, for the meanings, both listed before it.

    Logged, for `prompt` and each probe, `probe_PERCENT`, in [0, 1]:
        probe_vs_prompt/NAME_accuracy: on the images of the pass.
        probe_vs_prompt/NAME_worst_group: the lowest accuracy of any class x value of the factor.
        probe_vs_prompt/NAME_unexpected_share: of what drives the classes, mean over them.
        probe_vs_prompt/NAME_paired_unexpected_share: the same over the paired classes.
        probe_vs_prompt/NAME_culprit_share: of what drives a paired class, the share of the latents that tell
            its value (AUROC >= 0.9), mean over the paired classes.

    Writes `probe_vs_prompt.csv`, the same in a row per classifier, and `pictures/probe_vs_prompt.png`.

    Attributes:
        table: what `probe_vs_prompt.csv` holds; `None` before the first measurement.

    Args:
        factor: that the data know of each image.
        pairs: class -> value of the factor; `None`: the values that `n_pairs` classes go with most in train.
        n_pairs: classes.
        shares: of a paired class's images with its value, each in `[1 / V, 1]` for `V` values; a probe each.
        images_per_class: of a probe's train set; fewer where there are not as many.
        min_images: a class with fewer predicted images is not judged.
        min_group: images; smaller groups are left out.
        every: measure after every so many validation passes; 0: only after the last step of a fit.
        seed: of the train sets.
    """

    def __init__(
        self,
        factor: str,
        pairs: Mapping[str, str] | None = None,
        n_pairs: int = 3,
        shares: Sequence[float] = (0.2, 0.5, 0.8, 0.95, 1.0),
        images_per_class: int = 150,
        min_images: int = 20,
        min_group: int = 10,
        every: int = 0,
        seed: int = 0,
    ) -> None:
        if min(n_pairs, images_per_class) < 1 or every < 0 or not shares:
            raise ValueError(
                "n_pairs and images_per_class must be at least 1, every at least 0, and shares one or more; "
                f"got {n_pairs}, {images_per_class}, {every} and {list(shares)}"
            )
        self.factor, self.pairs, self.n_pairs, self.shares = factor, pairs, n_pairs, sorted(set(shares))
        self.images_per_class, self.min_images, self.min_group = images_per_class, min_images, min_group
        self.every, self.seed = every, seed
        self.table: pd.DataFrame | None = None
        self._passes, self._warned = 0, False
        self._paired: Tensor | None = None
        self._probes: dict[float, tuple[LinearClassifier, int]] = {}
        self._contenders: list[_Contender] = []
        self._latents: ImageLatents | None = None

    def begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fits the probes when it is time, once, and empties the sums."""
        self.table, self._contenders = None, []
        fitting = trainer.state.fn == "fit"
        self._passes += fitting
        turn = self.every > 0 and self._passes % self.every == 0
        if fitting and not turn and not is_last_pass(trainer):
            return
        if find(trainer, Attribution) is None or find(trainer, UnexpectedReliance) is None:
            self._idle()
            return
        data, output = data_of(trainer), self._output(trainer)
        self._fit(data)
        texts = ClassScores(data.class_embeddings, output, data.clip.logit_scale)
        self._contenders = [self._contender(trainer, pl_module, "prompt", None, 0, texts)]
        for share, (probe, n) in self._probes.items():
            scores = ClassScores(probe.to(data.class_embeddings), "logit" if output == "cosine" else output)
            name = f"probe_{100 * share:g}"
            self._contenders.append(self._contender(trainer, pl_module, name, share, n, scores))
        self._latents = ImageLatents(sae_of(pl_module).sae.d_sae).to(pl_module.device)

    def _idle(self) -> None:
        if not self._warned:
            warnings.warn(
                "probe_vs_prompt needs the callbacks attribution and reliance, listed before it: it stays "
                "idle. Bring them back, or leave it out with ~callbacks.probe_vs_prompt",
                stacklevel=2,
            )
        self._warned = True

    def check(self, data: ActivationDataModule) -> None:
        """Refuses factors and pairs that the images do not have."""
        for split in ("train", "val"):
            self._groups(data, split)
        self._pair(data, self._groups(data, "train"))

    def _output(self, trainer: Trainer) -> Output:
        attribution = find(trainer, Attribution)
        return attribution.output if attribution else "margin"

    def _groups(self, data: ActivationDataModule, split: Split) -> Groups:
        factors = data.images(split).factors
        if self.factor not in factors:
            raise ValueError(
                f"probe_vs_prompt compares by the factor {self.factor!r}, the images have "
                f"{', '.join(factors) or 'none'}: set callbacks.probe_vs_prompt.factor"
            )
        return factor_groups(self.factor, *factors[self.factor])

    def _fit(self, data: ActivationDataModule) -> None:
        """The pairs, and a probe for each share, once."""
        if self._probes:
            return
        images, groups = data.images("train"), self._groups(data, "train")
        self._paired = self._pair(data, groups)
        folder = store_folder(data.store_dir, data.clip, images) / "images"
        embeddings = read_tensor(folder, "embeddings").float()
        there = occurring(images.targets, groups.of, len(data.class_names), len(groups.values))
        shares = [biased_shares(self._paired, there, share) for share in self.shares]
        most = min(largest_sample(images.targets, groups.of, spread) for spread in shares)
        per_class = min(self.images_per_class, most)  # the same for all: only the bias differs
        for share, spread in zip(self.shares, shares, strict=True):
            ids = biased_sample(images.targets, groups.of, spread, per_class, self.seed)
            probe = fit_probe(embeddings[ids], images.targets[ids], len(data.class_names))
            self._probes[share] = probe, len(ids)

    def _pair(self, data: ActivationDataModule, groups: Groups) -> Tensor:
        names = data.class_names
        if self.pairs is None:
            targets = data.images("train").targets
            return most_associated(targets, groups.of, len(names), len(groups.values), self.n_pairs)
        unknown = [c for c in self.pairs if c not in names]
        unknown += [v for v in self.pairs.values() if v not in groups.values]
        if unknown:
            raise ValueError(
                f"pairs names {unknown}: a class must be one of {names[:10]}..., a value of {self.factor} "
                f"one of {list(groups.values)[:10]}"
            )
        values = [list(groups.values).index(self.pairs[c]) if c in self.pairs else -1 for c in names]
        return torch.tensor(values)

    def _contender(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        name: str,
        share: float | None,
        images: int,
        scores: ClassScores,
    ) -> _Contender:
        means = MeanAttribution(len(scores.weight), sae_of(pl_module).sae.d_sae).to(pl_module.device)
        predicted = torch.full((len(data_of(trainer).images("val")),), -1, device=pl_module.device)
        return _Contender(name, share, images, scores, means, predicted)

    def add(self, trainer: Trainer, pl_module: LightningModule, images: Images) -> None:
        """Attributes every classifier's score of the class that it predicts."""
        if not self._contenders:
            return
        n, t, _ = images.x.shape
        tail, W_dec, rows = data_of(trainer).tail, decoder_of(pl_module), torch.arange(n).repeat_interleave(t)
        for contender in self._contenders:
            predicted = contender.scores.logits(images.embeddings).argmax(1)
            score = contender.scores.of(predicted)
            g = gradient(tail, images.x, score, images.context, batch_size=n).flatten(0, 1)
            values = attribute(images.latents, W_dec, g)
            contender.means.update(images.latents, values, predicted, rows.to(g.device))
            contender.predicted[images.image_ids] = predicted
        assert self._latents is not None
        self._latents.update(images.latents, images.image_ids.repeat_interleave(t))

    def finish(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes the table and logs it."""
        if not self._contenders:
            return
        assert self._latents is not None
        groups = self._groups(data_of(trainer), "val")
        latents, ids = self._latents.latents()
        of = groups.of.to(ids.device)[ids]
        told = [sparse_auroc(latents, of == v) >= TELLS for v in range(len(groups.values))]
        tells = torch.stack(told).cpu()
        rows = [self._row(trainer, contender, groups, tells) for contender in self._contenders]
        self.table, self._contenders, self._latents = pd.DataFrame(rows), [], None
        for row in rows:
            for measure in MEASURES:
                pl_module.log(f"probe_vs_prompt/{row['classifier']}_{measure}", row[measure])

    def _row(self, trainer: Trainer, contender: _Contender, groups: Groups, tells: Tensor) -> dict[str, Any]:
        assert self._paired is not None
        reliance = find(trainer, UnexpectedReliance)
        assert reliance is not None
        assert reliance.meaning is not None
        means = contender.means.compute()
        mean, counts = means.mean.cpu(), means.counts.cpu()
        found = unexpected_reliance(mean, counts, reliance.meaning.foreign, self.min_images)
        culprits = culprit_shares(mean, self._paired, tells).where(counts >= self.min_images, torch.nan)
        predicted: Tensor = trainer.strategy.reduce(contender.predicted, reduce_op="max")
        predicted = predicted.cpu()
        targets = data_of(trainer).images("val").targets.where(predicted >= 0, -1)
        cells = torch.where(targets >= 0, targets * len(groups.values) + groups.of, -1)
        worst = worst_group(predicted, targets, cells, self.min_group)
        group = "" if worst.group < 0 else _name(trainer, groups, worst.group)
        return {
            "classifier": contender.name,
            "share": contender.share,
            "train_images": contender.images,
            "accuracy": accuracy(predicted, targets),
            "worst_group": worst.accuracy,
            "worst_group_name": group,
            "unexpected_share": float(found.overall),
            "paired_unexpected_share": float(found.share[self._paired >= 0].nanmean()),
            "culprit_share": float(culprits.nanmean()),
        }

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the table and the picture."""
        if trainer.sanity_checking or self.table is None or not trainer.is_global_zero:
            return
        publish_table(trainer, "probe_vs_prompt", self.table)
        path = run_dir(trainer) / "pictures" / "probe_vs_prompt.png"
        save_figure(draw_comparison(self.table, self.factor), path, dpi=120)
        publish_picture(trainer, "pictures/probe_vs_prompt", path)

    def sentence(self) -> str:
        """What was found, in one line; "" before the first measurement."""
        if self.table is None:
            return ""
        prompt, least, most = (self.table.iloc[row] for row in (0, 1, -1))
        parts = [
            f"{title} {prompt[key]:.0%}, {least[key]:.0%}, {most[key]:.0%}".replace("%", " %")
            for key, title in {
                "culprit_share": "driven by the paired value",
                "worst_group": "worst group",
                "accuracy": "right",
            }.items()
        ]
        names = f"prompts, a probe at {100 * least['share']:g} %, one at {100 * most['share']:g} %"
        return f"{names}: {'; '.join(parts)}"

    def state_dict(self) -> dict[str, int]:
        """How many passes there were."""
        return {"passes": self._passes}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Goes on counting."""
        self._passes = state_dict["passes"]


def _name(trainer: Trainer, groups: Groups, group: int) -> str:
    c, v = divmod(group, len(groups.values))
    return f"{data_of(trainer).class_names[c]}, {groups.name}={groups.values[v]}"
