"""What an image shows, as far as anyone knows: its class in the data, else what the judge would call it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.concepts.vocabulary import embed_labels
from lightning_sae.data import ActivationDataModule
from lightning_sae.metrics.accuracy import predict


class Subjects(NamedTuple):
    """The subject that each validation image shows.

    Attributes:
        names: `S` names: the classes of the data.
        subject: `[n]` int64 in `0..S-1`.
        known: `[n]` bool, whether the data say so; elsewhere the judge does.
        of_class: place of each class of the classifier among `names`, -1 for one that the data do not have.
    """

    names: Sequence[str]
    subject: Tensor
    known: Tensor
    of_class: Sequence[int]

    def show(self, c: int) -> Tensor:
        """Return `[n]` bool, the images that show class `c` of the classifier."""
        return self.subject == self.of_class[c] if self.of_class[c] >= 0 else torch.zeros_like(self.known)

    @property
    def shown(self) -> Tensor:
        """`[n]` int64, class of each image as far as anyone knows, -1 where the classifier has none."""
        shown = torch.full_like(self.subject, -1)
        for c, place in enumerate(self.of_class):
            if place >= 0:
                shown[self.subject == place] = c
        return shown

    def of_classes(self, values: Tensor) -> Tensor:
        """Return rows of the subjects `[S, n]` as rows of the classes `[C, n]`; NaN for one without."""
        rows = torch.tensor(self.of_class, device=values.device)
        return torch.where((rows >= 0)[:, None], values[rows.clamp(min=0)], torch.nan)

    @property
    def targets(self) -> Tensor:
        """`[n]` int64, class of each image; `C + subject` where the classifier has none, -1 if not known."""
        targets = len(self.of_class) + self.subject
        for c, place in enumerate(self.of_class):
            if place >= 0:
                targets[self.subject == place] = c
        return torch.where(self.known, targets, -1)


def find_subjects(data: ActivationDataModule, class_names: Sequence[str]) -> Subjects:
    """Return what the validation images show.

    Args:
        data: set up.
        class_names: of the classifier; those that the data do not have match no image.

    Raises:
        ValueError: the data have none of the classes.
    """
    names, targets = data.class_names, data.images("val").targets
    place = {name: c for c, name in reversed(list(enumerate(names)))}
    same = list(class_names) == list(names)  # then names may occur twice, as ImageNet's do
    of_class = list(range(len(names))) if same else [place.get(name, -1) for name in class_names]
    if max(of_class) < 0:
        raise ValueError(
            f"the classifier knows {', '.join(list(class_names)[:5])}, ..., the data {', '.join(names[:5])}, "
            "...: no class is in both; name the classes as the data do"
        )
    known = targets >= 0
    if not known.all():
        texts = embed_labels(data.judge, names, ["a photo of a {}"]).to(data.judge_embeddings)
        targets = torch.where(known, targets, predict(data.judge_embeddings, texts).cpu())
    return Subjects(names, targets, known, of_class)
