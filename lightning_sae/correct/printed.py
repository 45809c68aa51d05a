"""The word of a class printed on images of the data, which then differ in nothing else."""

import torch
from torch import Tensor

from lightning_sae.classifiers.linear import LinearClassifier
from lightning_sae.clip import capture
from lightning_sae.correct.embeddings import CulpritView, culprit_activations, pixels
from lightning_sae.data.images.image_set import Split
from lightning_sae.metrics.group_errors import others_than
from lightning_sae.pairs.printing import STYLES, Label, Style
from lightning_sae.runs.folder import RunFolder

AT_AN_EDGE = tuple(style for style in STYLES if style.place in (0.0, 1.0))  # where a label hides least
TRIED = 20  # images on which a style is tried
OWN, OTHERS = 200, 400  # images at most that are printed on: of the class, of other classes


def printed_on(targets: Tensor, target: int, own: int = OWN, others: int = OTHERS) -> Tensor:
    """Return the ids of images of the class and of other classes, each evenly spread over the data.

    Example:
        >>> printed_on(torch.tensor([0, 1, 0, 1, 0, -1]), target=0, own=2, others=5).tolist()
        [0, 4, 1, 3]
    """
    return torch.cat([_spread(targets == target, own), _spread(others_than(targets, target), others)])


def _spread(chosen: Tensor, most: int) -> Tensor:
    ids = chosen.nonzero().flatten()
    return ids[torch.linspace(0, len(ids) - 1, min(most, len(ids))).round().long()]


@torch.no_grad()
def strongest_style(
    run: RunFolder, split: Split, word: str, classes: LinearClassifier, targets: Tensor, target: int
) -> Style:
    """Return the style in which the word most often turns images of other things into the class.

    Each style is tried on the same few images, and ties go to the style with the largest mean logit of the
    class. Only labels at the upper or lower edge are tried, as they hide the least of an image.

    Args:
        run: an opened run on images.
        split: of its data.
        word: that is printed.
        classes: of the classifier as it is.
        targets: `[n]` int64, of the split.
        target: the class.
    """
    ids = printed_on(targets, target, 0, TRIED)

    def drives(style: Style) -> tuple[float, float]:
        batches = pixels(run, split, ids, Label(word, style))
        embeddings = torch.cat([run.data.clip.encode_image(batch).float().cpu() for batch in batches])
        logits = classes.logits(embeddings)
        return float((logits.argmax(1) == target).double().mean()), float(logits[:, target].mean())

    return max(AT_AN_EDGE, key=drives)


@torch.no_grad()
def view_printed(
    run: RunFolder, split: Split, label: Label, ids: Tensor, latents: tuple[int, ...], seen: CulpritView
) -> CulpritView:
    """Return the images of a split with a label on them, and without factors.

    Args:
        run: an opened run on images.
        split: of its data.
        label: to print.
        ids: `[m]` of the images.
        latents: the culprits.
        seen: the split as it is.
    """
    data, sae = run.data, run.sae.to(run.data.clip.device)
    embeddings, activations = [], []
    with capture(data.clip, [data.hook]) as at:
        for batch in pixels(run, split, ids, label):
            embeddings.append(data.clip.encode_image(batch).float().cpu())
            activations.append(culprit_activations(sae, at[data.hook], latents))
    return CulpritView(torch.cat(embeddings), torch.cat(activations), seen.targets[ids], {}, ids)
