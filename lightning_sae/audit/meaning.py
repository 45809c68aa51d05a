"""What the judge says: of the latents, of the classes, and of the images that are predicted wrongly."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
import torch
from hydra.utils import instantiate
from torch import Tensor

from lightning_sae.alignment import alignment_scores, concept_vectors
from lightning_sae.audit.phrases import words_of
from lightning_sae.labels import embed_labels
from lightning_sae.metrics import top_images
from lightning_sae.naming import names_of
from lightning_sae.reliance import calibrated_threshold
from lightning_sae.run_folder import RunFolder
from lightning_sae.types import SparseLatents
from lightning_sae.zero_shot import predict


class Judged(NamedTuple):
    """Alignments under the judge, and what chance reaches.

    Attributes:
        class_names: of the classifier.
        embeddings: `[n, d]` unit, images as the judge sees them.
        texts: `[C, d]` unit, class names.
        labels: of each latent; "" without one.
        named: of each latent, whether its label is to be relied on.
        label_alignment: `[d_sae]`, of the latent with its label; NaN without one.
        p: `[d_sae]`, chance of a label as good as that; NaN if unknown.
        top_ids: `[d_sae, top]` int64, images, the largest activation first, -1 for none.
        alignment: `[d_sae, C]`, of the top images with the class names.
        threshold: `[d_sae, C]`, that few sets of as many random images reach.
    """

    class_names: Sequence[str]
    embeddings: Tensor
    texts: Tensor
    labels: list[str]
    named: list[bool]
    label_alignment: Tensor
    p: Tensor
    top_ids: Tensor
    alignment: Tensor
    threshold: Tensor

    @property
    def unexpected(self) -> Tensor:
        """`[d_sae, C]` bool: the top images agree no better with the class than random ones can."""
        return self.alignment < self.threshold

    def otherwise(self, c: int, phrase: str) -> Tensor:
        """`[d_sae]`: alignment with the label; NaN where that is the class's own name, or there is none."""
        own = {_plain(self.class_names[c]), _plain(phrase), ""}
        another = torch.tensor([_plain(label) not in own for label in self.labels])
        return torch.where(another, self.label_alignment, torch.nan)

    def called(self, images: Tensor, c: int) -> float:
        """Share of some images, `[n]` bool, that the judge calls class `c` among all; 0 without any."""
        chosen = self.embeddings[images.cpu()]
        return float((predict(chosen, self.texts) == c).float().mean()) if len(chosen) else 0.0


def judge_run(run: RunFolder, latents: SparseLatents, class_names: Sequence[str]) -> Judged:
    """What the run's judge says, by the run's own idea of chance.

    Args:
        run: with its data set up.
        latents: of the validation images. Their top images can be others than those in `latents.csv`, where
            the training went on after its last validation pass.
        class_names: of the classifier.
    """
    embeddings = run.data.judge_embeddings.cpu()
    templates = instantiate(run.config.labels, _convert_="all").templates
    texts = embed_labels(run.data.judge, [*class_names, ""], templates).to(embeddings)
    reliance = run.config.callbacks.get("reliance") or {}  # a run may have left it out
    chance = {name: reliance[name] for name in ("quantile", "draws", "seed") if name in reliance}
    top_ids = _top_ids(run, latents)
    alignment = alignment_scores(concept_vectors(top_ids, embeddings), texts[:-1], texts[-1])
    sizes = (top_ids >= 0).sum(1)
    threshold = torch.full((int(sizes.max()) + 1, len(class_names)), torch.nan)
    for n in torch.unique(sizes[sizes > 0]).tolist():
        threshold[n] = calibrated_threshold(embeddings, texts[:-1], texts[-1], n, **chance)
    column = run.latents.reindex(range(latents.d_sae))
    names = names_of(column)
    return Judged(
        class_names,
        embeddings,
        texts[:-1],
        [name.label for name in names],
        [name.named for name in names],
        _numbers(column, "alignment"),
        _numbers(column, "p"),
        top_ids,
        alignment,
        threshold[sizes],
    )


def _plain(name: str) -> str:
    return " ".join(words_of(name))


def _numbers(table: pd.DataFrame, name: str) -> Tensor:
    values = pd.to_numeric(table[name]) if name in table else pd.Series(float("nan"), index=table.index)
    return torch.tensor(values.to_numpy(dtype="float64"))


def _top_ids(run: RunFolder, latents: SparseLatents) -> Tensor:
    """As many of each latent as the run had."""
    most = max((len(ids.split()) for ids in run.latents["top_images"]), default=1)
    ids = torch.arange(len(latents), device=latents.offsets.device)
    return top_images(latents, ids, most)[1].cpu()
