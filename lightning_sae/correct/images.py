"""The images that a correction is chosen or measured on, with the groups that it is judged by."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.correct.clamp import Held
from lightning_sae.correct.embeddings import CulpritView, embed_split
from lightning_sae.correct.printed import printed_on, view_printed
from lightning_sae.data.images.image_set import Split
from lightning_sae.metrics.group_errors import Groups, culprit_groups, factor_groups, one_against_rest
from lightning_sae.pairs.printing import Label
from lightning_sae.runs.folder import RunFolder

CULPRITS = "culprits"  # the factor that is always there
PRINTED = "printed"  # the factor that is made: a word


class CorrectionSet(NamedTuple):
    """The images of a split, and maybe some of them once more with a word on them.

    Attributes:
        split: of the data.
        data: the images of the split.
        seen: the same images, and after them those with a word.
        groups: groups of the images in `seen`.
        label: label that is printed; `None` where none is.
        ids: `[m]` of the images that the label is printed on.
    """

    split: Split
    data: CulpritView
    seen: CulpritView
    groups: Groups
    label: Label | None
    ids: Tensor

    def embed(self, run: RunFolder, held: Held | None) -> Tensor:
        """Return the embeddings of the images with latents held at values, `[n, d_embed]` unit on the CPU."""
        if held is None:
            return self.seen.embeddings
        plain = embed_split(run, self.split, held)
        if self.label is None:
            return plain
        return torch.cat([plain, embed_split(run, self.split, held, self.ids, self.label)])


def with_groups(split: Split, seen: CulpritView, factor: str) -> CorrectionSet:
    """Return the images of a split in the groups of a factor: `FACTOR`, `FACTOR=VALUE` or `culprits`.

    Raises:
        ValueError: no such factor, or value.
    """
    return CorrectionSet(split, seen, seen, groups_of(seen, factor), None, torch.zeros(0, dtype=torch.long))


def with_word(
    run: RunFolder, split: Split, seen: CulpritView, latents: tuple[int, ...], label: Label, target: int
) -> CorrectionSet:
    """Return the images of a split as they are, and several hundred of them with a word on them.

    Args:
        run: an opened run on images.
        split: of its data.
        seen: all of its images.
        latents: the culprits.
        label: to print.
        target: the class that is led astray; the word goes on images of it and of others.
    """
    ids = printed_on(seen.targets, target)
    added = view_printed(run, split, label, ids, latents, seen)
    embeddings, activations, targets = (torch.cat(pair) for pair in zip(seen[:3], added[:3], strict=True))
    both = CulpritView(embeddings, activations, targets, {}, torch.cat([seen.ids, added.ids]))
    of = torch.arange(2).repeat_interleave(torch.tensor([len(seen.targets), len(ids)]))
    groups = Groups(PRINTED, ["as they are", label.word], of, added=len(ids))
    return CorrectionSet(split, seen, both, groups, label, ids)


def groups_of(seen: CulpritView, factor: str) -> Groups:
    """Return the groups that a factor divides the images into.

    Raises:
        ValueError: no such factor, or value.
    """
    if factor == CULPRITS:
        return culprit_groups(seen.activations)
    name, _, value = factor.partition("=")
    if name not in seen.factors:
        known = ", ".join([*seen.factors, CULPRITS, PRINTED])
        raise ValueError(f"the images have no factor {name!r}: take one of {known}")
    groups = factor_groups(name, *seen.factors[name])
    return one_against_rest(groups, value) if value else groups
