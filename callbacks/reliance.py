"""What nobody intended: latents that drive the score of a class and do not mean it, and what they do."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.alignment import Alignment
from callbacks.attribution import Attribution
from callbacks.image_pass import Images, probe_images
from callbacks.parts import data_of, decoder_of, find, id_texts, sae_of
from callbacks.truth import known_factors
from callbacks.whole_pass import image_latents
from lightning_sae.attribution.ablation import COLUMNS, AblationEffects, Removal, effects_table, mean_effects
from lightning_sae.attribution.reliance import Reliance, culprits, unexpected_reliance
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.concepts.meaning import Meaning, MeaningTests, class_meaning, shown_classes
from lightning_sae.concepts.naming import name_columns
from lightning_sae.concepts.vocabulary import embed_labels
from lightning_sae.metrics import ActiveRanks
from lightning_sae.metrics.accuracy import predict
from lightning_sae.tracking.publish import publish_table

ALL = "all"  # culprits of a class, removed together
TABLE = [
    *("class", "images", "class_share", "latent", "label", "named", "attribution", "share"),
    *("agreement", "p_random", "p_class", "told"),
    *("score", "score_without", "accuracy", "accuracy_without", "false_positives", "false_positives_without"),
    "examples",
]


class UnexpectedReliance(Callback):
    """Splits each class's positive attribution into expected and unexpected, and ablates the culprits.

    It needs the callbacks Attribution, for the means, and Alignment, for the meanings; without one of them it
    warns once and does nothing. Ablation runs on the whole validation split where the tail is a closed form,
    else on the probe images, and only on images on which a culprit is active.

    Logged:
        attribution/unexpected_share: mean over the classes with enough images, in [0, 1].
        reliance/score_effect, reliance/accuracy_effect, reliance/worst_group_effect,
            reliance/false_positives_effect: value without a class's culprits minus value as it is, mean over
            the ablated classes: of the class's mean score, of its accuracy, of the lowest accuracy of any
            group of it, and of the share of other images that are predicted as it.

    Writes `reliance.csv`, the culprits of each class, each with what its ablation does, and
    `reliance_groups.csv`, the same for groups of images, also with all culprits of a class removed at once.

    Attributes:
        reliance: of the last pass; `None` before the first.
        meaning: of the latents, against the class names.
        table: what `reliance.csv` holds.
        groups: what `reliance_groups.csv` holds.

    Args:
        min_images: a class with fewer attributed images is not judged.
        level: of the two tests by which a latent means a class or does not (`class_meaning`), in (0, 1).
        draws: random sets behind a p-value, and sets of images of the class at most.
        seed: of the draws.
        top: culprits per class in the table.
        classes: classes whose culprits are ablated, those with the largest unexpected share; 0: none.
        probe_classes: the same where the tail is no closed form, and each edited image costs a run of it.
        min_group: images; smaller groups are left out.
        examples: top images of a culprit in the table.
    """

    def __init__(
        self,
        min_images: int = 20,
        level: float = 0.01,
        draws: int = 1000,
        seed: int = 0,
        top: int = 5,
        classes: int = 25,
        probe_classes: int = 5,
        min_group: int = 10,
        examples: int = 5,
    ) -> None:
        if min(top, draws) < 1 or min(classes, probe_classes) < 0:
            raise ValueError(
                "top and draws must be at least 1, classes and probe_classes at least 0, "
                f"got {top}, {draws}, {classes} and {probe_classes}"
            )
        self.min_images, self.level, self.draws, self.seed = min_images, level, draws, seed
        self.top, self.min_group, self.examples = top, min_group, examples
        self.classes, self.probe_classes = classes, probe_classes
        self.reliance: Reliance | None = None
        self.meaning: Meaning | None = None
        self.table, self.groups = pd.DataFrame(), pd.DataFrame()
        self._class_names: list[str] = []
        self._names: Tensor | None = None
        self._warned = False

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Joins what the two others know, ablates and logs."""
        if trainer.sanity_checking:
            return
        alignment, attribution = find(trainer, Alignment), find(trainer, Attribution)
        if alignment is None or attribution is None:
            self._idle()
        elif alignment.vectors is not None and attribution.means is not None:
            self._judge(trainer, pl_module, alignment, attribution)

    def _idle(self) -> None:
        if not self._warned:
            warnings.warn(
                "unexpected reliance needs the callbacks alignment and attribution, listed before reliance: "
                "it stays idle. Bring them back, or leave it out with ~callbacks.reliance",
                stacklevel=2,
            )
        self._warned = True

    def _judge(
        self, trainer: Trainer, pl_module: LightningModule, alignment: Alignment, attribution: Attribution
    ) -> None:
        assert alignment.vectors is not None
        assert attribution.means is not None
        _, top_ids = sae_of(pl_module).top_images.compute()
        means = attribution.means
        self.meaning = self._meaning(trainer, alignment.vocabulary.templates, top_ids)
        self.reliance = unexpected_reliance(means.mean, means.counts, self.meaning.foreign, self.min_images)
        pl_module.log("attribution/unexpected_share", self.reliance.overall)
        table = culprits(self.reliance, means.mean, means.counts, self.top)
        picked = table["latent"].tolist(), table["class"].tolist()
        for name in ("agreement", "p_random", "p_class"):
            table[name] = getattr(self.meaning, name)[picked].tolist()
        table["told"] = self.meaning.told[table["class"].tolist()].tolist()
        called = alignment.latent_names()
        table = table.assign(**name_columns([called[j] for j in picked[0]]))
        table["examples"] = id_texts(top_ids[picked[0], : self.examples])
        self._ablate(trainer, pl_module, attribution, table)

    def _embed(self, trainer: Trainer, templates: Sequence[str]) -> Tensor:
        """The class names as the judge reads them, `[C, d]`, once."""
        if self._names is None:
            data = data_of(trainer)
            self._class_names = data.class_names
            names = embed_labels(data.judge, data.class_names, templates)
            self._names = names.to(data.judge_embeddings)
        return self._names

    def _meaning(self, trainer: Trainer, templates: Sequence[str], top_ids: Tensor) -> Meaning:
        """Of each latent for each class, on the CPU."""
        data, names = data_of(trainer), self._embed(trainer, templates)
        shown = shown_classes(data.images("val").targets, data.judge_embeddings, names)
        tests = MeaningTests(self.level, self.draws, self.seed, self.min_images)
        latents, ids = image_latents(trainer)
        detects = ActiveRanks.of(latents).aurocs(shown.to(ids.device)[ids], len(names)).T
        found = class_meaning(
            top_ids.to(names.device), data.judge_embeddings, names, shown, detects.to(names), tests
        )
        return found.to("cpu")

    def _ablate(
        self, trainer: Trainer, pl_module: LightningModule, attribution: Attribution, table: pd.DataFrame
    ) -> None:
        """Removes the culprits, each alone and all of a class together, logs, and makes both tables."""
        closed_form = data_of(trainer).tail.needs == "nothing"
        alone, together = _removals(table, self.classes if closed_form else self.probe_classes)
        removals = alone + together
        found = pd.DataFrame(columns=COLUMNS)
        if removals:
            found = self._measure(trainer, pl_module, attribution, removals)
            effects = mean_effects(found[found["removal"] >= len(alone)])
            pl_module.log_dict({f"reliance/{name}_effect": value for name, value in effects.items()})
        self.table = self._named(
            table.join(_whole(found[found["removal"] < len(alone)])).reindex(columns=TABLE)
        )
        removed = [str(removal.latents[0]) for removal in alone] + [ALL] * len(together)
        found.insert(0, "removed", [removed[number] for number in found["removal"]])
        found.insert(0, "class", [removals[number].target for number in found.pop("removal")])
        order = {c: place for place, c in enumerate(table["class"].unique())}
        found = found.iloc[found["class"].map(order).argsort(kind="stable")]
        self.groups = self._named(found)

    def _measure(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        attribution: Attribution,
        removals: Sequence[Removal],
    ) -> pd.DataFrame:
        """The effects of the removals, over the images of the pass."""
        data, W_dec = data_of(trainer), decoder_of(pl_module)
        scores = ClassScores(data.class_embeddings, attribution.output, data.clip.logit_scale)
        metric = AblationEffects(removals, scores, len(data.images("val"))).to(pl_module.device)
        for images in _images(trainer, pl_module):
            predicted = predict(images.embeddings, data.class_embeddings)
            classes = {"predicted": predicted, "true": images.targets, "all": None}[attribution.over]
            metric.update(images.explain(data.tail, W_dec), classes)
        targets, factors = data.images("val").targets, known_factors(trainer)
        return effects_table(metric.effects(), removals, targets, factors, self.min_group)

    def _named(self, table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(**{"class": [self._class_names[c] for c in table["class"]]})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the tables."""
        if not trainer.sanity_checking and self.reliance is not None:
            publish_table(trainer, "reliance", self.table)
            publish_table(trainer, "reliance_groups", self.groups)

    def latent_columns(self) -> dict[str, Sequence[Any]]:
        """The class that each latent drives most without meaning it, and how much; 0 and "" where none."""
        if self.reliance is None:
            return {}
        worst = self.reliance.u.max(0)
        names = [self._class_names[c] if v > 0 else "" for v, c in zip(*worst, strict=True)]
        return {"unexpected": worst.values.tolist(), "unexpected_class": names}


def _removals(table: pd.DataFrame, classes: int) -> tuple[list[Removal], list[Removal]]:
    """Each culprit of the first classes alone, in the order of the table, and all of each class together."""
    chosen = table[table["class"].isin(table["class"].unique()[:classes])]
    alone = [Removal(int(c), (int(j),)) for c, j in zip(chosen["class"], chosen["latent"], strict=True)]
    together = [
        Removal(c, tuple(chosen.loc[chosen["class"] == c, "latent"].tolist()))
        for c in chosen["class"].unique().tolist()
    ]
    return alone, together


def _whole(found: pd.DataFrame) -> pd.DataFrame:
    """By removal the effects on all images: columns such as `score` and `score_without`."""
    whole = found[found["factor"] == ""].pivot(index="removal", columns="measure")
    before, after = (whole[part] if len(whole) else pd.DataFrame() for part in ("as_it_is", "without"))
    return before.join(after.add_suffix("_without"))


def _images(trainer: Trainer, pl_module: LightningModule) -> Iterator[Images]:
    """What the pass was about: all its images where the tail is a closed form, else the probe images."""
    if data_of(trainer).tail.needs != "nothing":
        yield from probe_images(trainer, pl_module)
        return
    latents, ids = image_latents(trainer)
    for batch in trainer.val_dataloaders:  # type: ignore[union-attr]
        start, stop = torch.searchsorted(ids, batch.image_ids[[0, -1]].to(ids) + torch.tensor([0, 1]).to(ids))
        if stop - start == len(batch.x):  # else the pass ended before
            x, image_ids, targets, embeddings = (part.to(ids.device) for part in batch)
            mine = latents.slice(int(start), int(stop))
            x_hat = sae_of(pl_module).sae.decode(mine, x).float()
            yield Images(x[:, None], x_hat[:, None], mine, image_ids, targets, embeddings, None)
