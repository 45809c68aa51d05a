"""Text prompts beside linear probes on the same embeddings: what each of them relies on, and how it fares."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from callbacks.base import Pass, PassCallback
from lightning_sae.attribution.explained import PassImages
from lightning_sae.attribution.gradient import attribute, gradient
from lightning_sae.attribution.means import ClassAttribution, MeanAttribution
from lightning_sae.attribution.reliance import ClassReliance, unexpected_reliance
from lightning_sae.audit.verdict.sides import TELLS
from lightning_sae.classifiers.biased_sets import (
    biased_sample,
    biased_shares,
    culprit_shares,
    largest_sample,
    most_associated,
    occurring,
)
from lightning_sae.classifiers.comparison import ProbeComparison
from lightning_sae.classifiers.linear import LinearClassifier, fit_probe
from lightning_sae.classifiers.scores import ClassScores
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
        share: of a paired class's train images that have its value; `None` for prompts.
        images: number of images that it was fitted on.
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

    def add(self, images: PassImages) -> None:
        """Attribute the score of the class that it predicts for each image."""
        explained, (n, t, _) = images.explained, images.explained.x.shape
        predicted = self.scores.logits(images.embeddings).argmax(1)
        score = self.scores.of(predicted)
        g = gradient(explained.tail, explained.x, score, explained.context, batch_size=n).flatten(0, 1)
        values = attribute(explained.latents, explained.W_dec, g)
        rows = torch.arange(n).repeat_interleave(t).to(g.device)
        self.means.update(explained.latents, values, predicted, rows)
        self.predicted[images.image_ids] = predicted


class ProbeVsPrompt(PassCallback):
    """Compares zero-shot prompts with linear probes, fitted on train images of growing bias.

    In a biased train set each *paired* class goes with a value of a factor: `share` of its images have the
    value, and almost no images of other classes do (`lightning_sae.classifiers.biased_sets`). The callback
    needs the score, which Attribution gives, and the meanings, which UnexpectedReliance gives.

    Logged, for `prompt` and each probe, `probe_PERCENT`, in [0, 1]:
        probe_vs_prompt/NAME_accuracy: on the images of the pass.
        probe_vs_prompt/NAME_worst_group: the lowest accuracy of any class x value of the factor.
        probe_vs_prompt/NAME_unexpected_share: of what drives the classes, mean over them.
        probe_vs_prompt/NAME_paired_unexpected_share: the same over the paired classes.
        probe_vs_prompt/NAME_culprit_share: of what drives a paired class, the share of the latents that tell
            its value (AUROC >= 0.9), mean over the paired classes.

    Writes `probe_vs_prompt.csv`, the same in a row per classifier, and `pictures/probe_vs_prompt.png`.

    Args:
        factor: that the data know of each image.
        pairs: class -> value of the factor; `None`: the values that `n_pairs` classes go with most in train.
        n_pairs: number of paired classes where `pairs` is `None`.
        shares: of a paired class's images with its value, in `[1 / V, 1]` for `V` values; a probe for each.
        images_per_class: images per class in a probe's train set; fewer where there are not as many.
        min_images: a class with fewer predicted images is not judged.
        min_group: images; smaller groups are left out.
        every: measure after every so many validation passes; 0: only after the last step of a fit.
        seed: of the train sets.
    """

    needs = (ClassAttribution, ClassReliance)
    gives = ProbeComparison
    logs = tuple(f"probe_vs_prompt/*_{measure}" for measure in MEASURES)
    needs_latents = True

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
        self._paired: Tensor | None = None
        self._probes: dict[float, tuple[LinearClassifier, int]] = {}

    def check(self, data: ActivationDataModule) -> None:
        """Refuse factors and pairs that the images do not have."""
        for split in ("train", "val"):
            self._groups(data, split)
        self._pair(data, self._groups(data, "train"))

    def _groups(self, data: ActivationDataModule, split: Split) -> Groups:
        factors = data.images(split).factors
        if self.factor not in factors:
            raise ValueError(
                f"probe_vs_prompt compares by the factor {self.factor!r}, the images have "
                f"{', '.join(factors) or 'none'}: set callbacks.probe_vs_prompt.factor"
            )
        return factor_groups(self.factor, *factors[self.factor])

    def _fit(self, data: ActivationDataModule) -> None:
        """Make the pairs, and fit a probe for each share, once."""
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

    def finish(self, pass_: Pass) -> ProbeComparison:
        """Attribute every classifier's score of the class that it predicts, make the table and log it."""
        self._fit(pass_.data)
        contenders = self._contenders(pass_)
        seen = ImageLatents(pass_.sae.d_sae).to(pass_.module.device)
        for images in pass_.all_images():
            for contender in contenders:
                contender.add(images)
            seen.update(
                images.explained.latents, images.image_ids.repeat_interleave(images.explained.x.shape[1])
            )
        groups = self._groups(pass_.data, "val")
        latents, ids = seen.latents()
        of = groups.of.to(ids.device)[ids]
        told = [sparse_auroc(latents, of == v) >= TELLS for v in range(len(groups.values))]
        tells = torch.stack(told).cpu()
        rows = [self._row(pass_, contender, groups, tells) for contender in contenders]
        for row in rows:
            for measure in MEASURES:
                pass_.module.log(f"probe_vs_prompt/{row['classifier']}_{measure}", row[measure])
        return ProbeComparison(pd.DataFrame(rows))

    def _contenders(self, pass_: Pass) -> list[_Contender]:
        """Return the prompts and each probe, with empty sums."""
        data, output = pass_.data, pass_[ClassAttribution].output
        device, n = pass_.module.device, len(data.images("val"))

        def contender(name: str, share: float | None, images: int, scores: ClassScores) -> _Contender:
            means = MeanAttribution(len(scores.weight), pass_.sae.d_sae).to(device)
            return _Contender(name, share, images, scores, means, torch.full((n,), -1, device=device))

        texts = ClassScores(data.class_embeddings, output, data.clip.logit_scale)
        found = [contender("prompt", None, 0, texts)]
        for share, (probe, images) in self._probes.items():
            scores = ClassScores(probe.to(data.class_embeddings), output.for_probe())
            found.append(contender(f"probe_{100 * share:g}", share, images, scores))
        return found

    def _row(self, pass_: Pass, contender: _Contender, groups: Groups, tells: Tensor) -> dict[str, Any]:
        assert self._paired is not None
        means = contender.means.compute()
        mean, counts = means.mean.cpu(), means.counts.cpu()
        found = unexpected_reliance(mean, counts, pass_[ClassReliance].meaning.foreign, self.min_images)
        culprits = culprit_shares(mean, self._paired, tells).where(counts >= self.min_images, torch.nan)
        predicted: Tensor = pass_.trainer.strategy.reduce(contender.predicted, reduce_op="max")
        predicted = predicted.cpu()
        targets = pass_.data.images("val").targets.where(predicted >= 0, -1)
        cells = torch.where(targets >= 0, targets * len(groups.values) + groups.of, -1)
        worst = worst_group(predicted, targets, cells, self.min_group)
        group = "" if worst.group < 0 else _name(pass_.data, groups, worst.group)
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

    def report(self, pass_: Pass) -> None:
        """Write the table and the picture."""
        if not pass_.trainer.is_global_zero:
            return
        table = pass_[ProbeComparison].table
        publish_table(pass_.trainer, "probe_vs_prompt", table)
        path = run_dir(pass_.trainer) / "pictures" / "probe_vs_prompt.png"
        save_figure(draw_comparison(table, self.factor), path, dpi=120)
        publish_picture(pass_.trainer, "pictures/probe_vs_prompt", path)


def _name(data: ActivationDataModule, groups: Groups, group: int) -> str:
    c, v = divmod(group, len(groups.values))
    return f"{data.class_names[c]}, {groups.name}={groups.values[v]}"
