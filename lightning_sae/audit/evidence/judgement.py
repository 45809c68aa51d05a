"""What the judge says: of the latents, of the classes, and of the images that are predicted wrongly."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from lightning_sae.concepts.meaning import Meaning, MeaningTests, class_meaning, meaning_tests
from lightning_sae.concepts.naming import names_of
from lightning_sae.concepts.vocabulary import embed_labels
from lightning_sae.metrics import top_images
from lightning_sae.metrics.accuracy import predict
from lightning_sae.runs.folder import RunFolder
from lightning_sae.types import SparseLatents


class JudgeView(NamedTuple):
    """The images as the judge sees them.

    Attributes:
        embeddings: `[n, d]` unit, images as the judge sees them.
        texts: `[C, d]` unit, class names.
        shown: `[n]` int64, the class of each image, -1 for none of them.
        labels: of each latent; "" without one.
        named: of each latent, whether its label is to be relied on.
        label_alignment: `[d_sae]`, of the latent with its label; NaN without one.
        p: `[d_sae]`, chance of a label as good as that; NaN if unknown.
        top_ids: `[d_sae, top]` int64, images, the largest activation first, -1 for none.
        meaning: of the top images, against the class names.
        tests: level, draws and seed, as the run has them.
    """

    embeddings: Tensor
    texts: Tensor
    shown: Tensor
    labels: list[str]
    named: list[bool]
    label_alignment: Tensor
    p: Tensor
    top_ids: Tensor
    meaning: Meaning
    tests: MeaningTests

    def called(self, ids: Tensor, c: int) -> float:
        """Return the share of the images `ids`, `[m]` int64, that the judge calls class `c`.

        The judge chooses among all classes. The share is 0 without any images.
        """
        chosen = self.embeddings[ids.cpu()]
        return float((predict(chosen, self.texts) == c).float().mean()) if len(chosen) else 0.0

    def labelled(self, names: Sequence[str], latents: Sequence[int]) -> frozenset[int]:
        """Return the latents whose label, whether it is to be relied on or not, is one of the names."""
        return frozenset(j for j in latents if self.labels[j] in names)

    def of_images(self, ids: Tensor, c: int) -> Meaning:
        """Return what sets of images, `[m, n]` int64, -1 for none, mean for class `c`."""
        of_class = torch.where(self.shown == c, 0, -1)
        return class_meaning(ids, self.embeddings, self.texts[c : c + 1], of_class, tests=self.tests)


def judge_run(
    run: RunFolder, latents: SparseLatents, class_names: Sequence[str], shown: Tensor, detects: Tensor
) -> JudgeView:
    """Return what the run's judge says, by the run's own tests.

    Args:
        run: with its data set up.
        latents: of the validation images. Their top images can be others than those in `latents.csv`, where
            the training went on after its last validation pass.
        class_names: of the classifier.
        shown: `[n]` int64, the class of each image, -1 for none of them.
        detects: `[d_sae, C]`, AUROC of each latent for images of each class; NaN if unknown.
    """
    embeddings = run.data.judge_embeddings.cpu()
    texts = embed_labels(run.data.judge, class_names, run.vocabulary().templates).to(embeddings)
    top_ids, tests = _top_ids(run, latents), meaning_tests(run.config)
    column = run.latents.reindex(range(latents.d_sae))
    names = names_of(column)
    return JudgeView(
        embeddings,
        texts,
        shown.cpu(),
        [name.label for name in names],
        [name.named for name in names],
        _numbers(column, "alignment"),
        _numbers(column, "p"),
        top_ids,
        class_meaning(top_ids, embeddings, texts, shown.cpu(), detects, tests),
        tests,
    )


def _numbers(table: pd.DataFrame, name: str) -> Tensor:
    values = pd.to_numeric(table[name]) if name in table else pd.Series(float("nan"), index=table.index)
    return torch.tensor(values.to_numpy(dtype="float64"))


def _top_ids(run: RunFolder, latents: SparseLatents) -> Tensor:
    """Return the ids of the top images of each latent, as many as the run had."""
    most = max([1, *(len(ids.split()) for ids in run.latents["top_images"])])
    ids = torch.arange(len(latents), device=latents.offsets.device)
    return top_images(latents, ids, most)[1].cpu()
