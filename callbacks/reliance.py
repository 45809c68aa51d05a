"""What nobody intended: latents that drive the score of a class and do not mean it, and what they do."""

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Self

import pandas as pd
from torch import Tensor

from callbacks.base import Pass, PassCallback
from lightning_sae.attribution.ablation import COLUMNS, AblationEffects, Removal, effects_table, mean_effects
from lightning_sae.attribution.means import ClassAttribution
from lightning_sae.attribution.reliance import ClassReliance, Reliance, culprits, unexpected_reliance
from lightning_sae.baselines.terms import Terms
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.concepts.concept_labels import ConceptLabels
from lightning_sae.concepts.meaning import Meaning, MeaningTests, class_meaning, shown_classes
from lightning_sae.concepts.naming import name_columns
from lightning_sae.concepts.vocabulary import embed_labels
from lightning_sae.data import ActivationDataModule
from lightning_sae.data.images.image_set import known_factors
from lightning_sae.metrics import ActiveRanks
from lightning_sae.metrics.accuracy import predict
from lightning_sae.metrics.top_images import id_texts
from lightning_sae.tracking.publish import publish_table

ALL = "all"  # culprits of a class, removed together
TABLE = [
    *("class", "images", "class_share", "latent", "label", "named", "attribution", "share"),
    *("agreement", "p_random", "p_class", "told"),
    *("score", "score_without", "accuracy", "accuracy_without", "false_positives", "false_positives_without"),
    "examples",
]


class UnexpectedReliance(PassCallback):
    """Splits each class's positive attribution into expected and unexpected, and ablates the culprits.

    It needs the means, which Attribution gives, and the names, which Alignment gives. Ablation runs on the
    whole validation split where the tail is a closed form, else on the probe images, and only on images on
    which a culprit is active.

    Logged:
        attribution/unexpected_share: mean over the classes with enough images, in [0, 1].
        reliance/score_effect, reliance/accuracy_effect, reliance/worst_group_effect,
            reliance/false_positives_effect: what removing its culprits does to a class, as value without them
            minus value as it is, mean over the ablated classes. The values are the class's mean score, its
            accuracy, the lowest accuracy of any of its groups, and the share of other images predicted as it.

    Writes `reliance.csv`, the culprits of each class, each with what its ablation does, and
    `reliance_groups.csv`, the same for groups of images, also with all culprits of a class removed at once.

    Attributes:
        reliance: of the last pass; `None` before the first.
        meaning: of each latent for each class name.
        table: what `reliance.csv` holds.
        groups: what `reliance_groups.csv` holds.

    Args:
        min_images: a class with fewer attributed images is not judged.
        level: of the two tests by which a latent means a class or does not (`class_meaning`), in (0, 1).
        draws: random sets behind a p-value, and sets of images of the class at most.
        seed: of the draws.
        top: culprits per class in the table.
        classes: classes whose culprits are ablated, those with the largest unexpected share; 0: none.
        probe_classes: the same where the tail is no closed form and has to run for each edited image.
        min_group: images; smaller groups are left out.
        examples: top images of a culprit in the table.
    """

    needs = (ConceptLabels, ClassAttribution)
    gives = ClassReliance
    logs = (
        *("attribution/unexpected_share", "reliance/score_effect", "reliance/accuracy_effect"),
        *("reliance/worst_group_effect", "reliance/false_positives_effect"),
    )
    needs_latents = True

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

    def baseline(self) -> Self:
        """Return a copy that removes nothing: to remove culprits costs more than to find them."""
        fresh = copy(self)
        fresh.classes = fresh.probe_classes = 0
        return fresh

    def terms(self) -> Mapping[str, Terms]:
        """Return the unexpected share of each class."""
        if self.reliance is None:
            return {}
        return {"attribution/unexpected_share": Terms(self.reliance.share.cpu(), paired=True)}

    def finish(self, pass_: Pass) -> ClassReliance:
        """Join means and meanings, ablate and log."""
        concepts, means, top_ids = pass_[ConceptLabels], pass_[ClassAttribution].means, pass_.top_ids
        self.meaning = self._meaning(pass_, concepts.templates)
        self.reliance = unexpected_reliance(means.mean, means.counts, self.meaning.foreign, self.min_images)
        pass_.module.log("attribution/unexpected_share", self.reliance.overall)
        table = culprits(self.reliance, means.mean, means.counts, self.top)
        picked = table["latent"].tolist(), table["class"].tolist()
        for name in ("agreement", "p_random", "p_class"):
            table[name] = getattr(self.meaning, name)[picked].tolist()
        table["told"] = self.meaning.told[table["class"].tolist()].tolist()
        called = concepts.names
        table = table.assign(**name_columns([called[j] for j in picked[0]]))
        table["examples"] = id_texts(top_ids[picked[0], : self.examples])
        self._ablate(pass_, table)
        return ClassReliance(self.reliance, self.meaning, self.table)

    def _embed(self, data: ActivationDataModule, templates: Sequence[str]) -> Tensor:
        """Return the class names as the judge reads them, `[C, d]`, once."""
        if self._names is None:
            self._class_names = data.class_names
            names = embed_labels(data.judge, data.class_names, templates)
            self._names = names.to(data.judge_embeddings)
        return self._names

    def _meaning(self, pass_: Pass, templates: Sequence[str]) -> Meaning:
        """Return the meaning of each latent for each class, on the CPU."""
        data, names = pass_.data, self._embed(pass_.data, templates)
        shown = shown_classes(data.images("val").targets, data.judge_embeddings, names)
        tests = MeaningTests(self.level, self.draws, self.seed, self.min_images)
        latents, ids = pass_.latents
        detects = ActiveRanks.of(latents).aurocs(shown.to(ids.device)[ids], len(names)).T
        found = class_meaning(
            pass_.top_ids.to(names.device), data.judge_embeddings, names, shown, detects.to(names), tests
        )
        return found.to("cpu")

    def _ablate(self, pass_: Pass, table: pd.DataFrame) -> None:
        """Remove the culprits, each alone and all of a class together, log, and make both tables."""
        alone, together = _removals(table, self.classes if pass_.closed_form else self.probe_classes)
        removals = alone + together
        found = pd.DataFrame(columns=COLUMNS)
        if removals:
            found = self._measure(pass_, removals)
            effects = mean_effects(found[found["removal"] >= len(alone)])
            pass_.module.log_dict({f"reliance/{name}_effect": value for name, value in effects.items()})
        self.table = self._named(
            table.join(_whole(found[found["removal"] < len(alone)])).reindex(columns=TABLE)
        )
        removed = [str(removal.latents[0]) for removal in alone] + [ALL] * len(together)
        found.insert(0, "removed", [removed[number] for number in found["removal"]])
        found.insert(0, "class", [removals[number].target for number in found.pop("removal")])
        order = {c: place for place, c in enumerate(table["class"].unique())}
        found = found.iloc[found["class"].map(order).argsort(kind="stable")]
        self.groups = self._named(found)

    def _measure(self, pass_: Pass, removals: Sequence[Removal]) -> pd.DataFrame:
        """Return the effects of the removals, over the images of the pass."""
        data, (_, output, over) = pass_.data, pass_[ClassAttribution]
        scores = ClassScores(data.class_embeddings, output, data.clip.logit_scale)
        shown = data.images("val")
        metric = AblationEffects(removals, scores, len(shown)).to(pass_.module.device)
        for images in pass_.all_images():
            predicted = predict(images.embeddings, data.class_embeddings)
            classes = {"predicted": predicted, "true": images.targets, "all": None}[over]
            metric.update(images.explained, classes)
        return effects_table(metric.effects(), removals, shown.targets, known_factors(shown), self.min_group)

    def _named(self, table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(**{"class": [self._class_names[c] for c in table["class"]]})

    def report(self, pass_: Pass) -> None:
        """Write the tables."""
        publish_table(pass_.trainer, "reliance", self.table)
        publish_table(pass_.trainer, "reliance_groups", self.groups)

    def latent_columns(self) -> dict[str, Sequence[Any]]:
        """Return for each latent the class that it drives most without meaning it, and how much.

        A latent that drives no class in this way has the amount 0 and the class `""`.
        """
        if self.reliance is None:
            return {}
        worst = self.reliance.u.max(0)
        names = [self._class_names[c] if v > 0 else "" for v, c in zip(*worst, strict=True)]
        return {"unexpected": worst.values.tolist(), "unexpected_class": names}


def _removals(table: pd.DataFrame, classes: int) -> tuple[list[Removal], list[Removal]]:
    """Return the removals of the culprits of the first `classes` classes of the table.

    The first list removes each culprit alone, in the order of the table; the second list removes all culprits
    of each class together.
    """
    chosen = table[table["class"].isin(table["class"].unique()[:classes])]
    alone = [Removal(int(c), (int(j),)) for c, j in zip(chosen["class"], chosen["latent"], strict=True)]
    together = [
        Removal(c, tuple(chosen.loc[chosen["class"] == c, "latent"].tolist()))
        for c in chosen["class"].unique().tolist()
    ]
    return alone, together


def _whole(found: pd.DataFrame) -> pd.DataFrame:
    """Return, by removal, the effects on all images: columns such as `score` and `score_without`."""
    whole = found[found["factor"] == ""].pivot(index="removal", columns="measure")
    before, after = (whole[part] if len(whole) else pd.DataFrame() for part in ("as_it_is", "without"))
    return before.join(after.add_suffix("_without"))
