"""The images of a split as a correction sees them: embeddings, culprits, classes, groups."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.clip import make_tail
from lightning_sae.correct.clamp import Held, clamped, holding
from lightning_sae.data import ActivationStore, hook_folder
from lightning_sae.data.images.image_set import Split
from lightning_sae.data.store.shards import read_tensor
from lightning_sae.metrics.group_errors import OUTSIDE, UNKNOWN
from lightning_sae.pairs.printing import Label, put_label
from lightning_sae.progress import track
from lightning_sae.runs.folder import RunFolder
from lightning_sae.sae import SparseAutoencoder


class CulpritView(NamedTuple):
    """Some images, with what a correction needs to know of them.

    Attributes:
        embeddings: `[n, d_embed]` unit.
        activations: `[n, m]` of the culprits, the largest over an image's tokens.
        targets: `[n]` int64, class of the classifier that an image shows; `UNKNOWN` where nobody knows,
            `OUTSIDE` where it is none of the classifier's classes.
        factors: factor -> (its values, `[n]` int64, -1 for none); the class is no factor here.
        ids: `[n]` int64, place of each image in its split; an image with a word on it keeps its place.
    """

    embeddings: Tensor
    activations: Tensor
    targets: Tensor
    factors: Mapping[str, tuple[Sequence[str], Tensor]]
    ids: Tensor


@torch.no_grad()
def view_culprits(
    run: RunFolder, split: Split, latents: Sequence[int], class_names: Sequence[str]
) -> CulpritView:
    """Return the images of a split; what the store lacks of it is captured.

    Args:
        run: an opened run on images.
        split: of its data.
        latents: the culprits.
        class_names: of the classifier; the data may have others.
    """
    data, sae = run.data, run.sae.to(run.data.clip.device)
    folder = data.capture(split)
    store = ActivationStore(hook_folder(folder, data.hook), device=data.clip.device)
    t, parts = store.layout.tokens, []
    step = max(1, data.eval_batch_size // t) * t
    for start in range(0, len(store), step):
        x = store.rows(start, min(start + step, len(store))).float().to(data.clip.device)
        parts.append(culprit_activations(sae, x.view(-1, t, sae.d_in), latents))
    images = data.images(split)
    embeddings = read_tensor(folder / "images", "embeddings").float()
    targets = renumbered(images.targets, images.class_names, class_names)
    ids = torch.arange(len(targets))
    return CulpritView(embeddings, torch.cat(parts), targets, dict(images.factors), ids)


def culprit_activations(sae: SparseAutoencoder, x: Tensor, latents: Sequence[int]) -> Tensor:
    """Return the largest activation of latents over the tokens of each image, `[n, m]` on the CPU.

    Args:
        sae: whose latents they are.
        x: `[n, t, d_in]`, raw.
        latents: `m` of them.
    """
    active = sae.encode(x.flatten(0, 1)).columns(torch.tensor(latents)).to_dense()
    return active.view(*x.shape[:2], len(latents)).amax(1).float().cpu()


def renumbered(targets: Tensor, data_names: Sequence[str], class_names: Sequence[str]) -> Tensor:
    """Return the targets of the data in the numbers of a classifier that may have fewer classes, or others.

    Example:
        >>> renumbered(torch.tensor([0, 1, -1]), ["cat", "dog"], ["dog", "horse"]).tolist()
        [-2, 0, -1]
    """
    places = [list(class_names).index(name) if name in class_names else OUTSIDE for name in data_names]
    return torch.tensor([*places, UNKNOWN])[targets]


@torch.no_grad()
def embed_split(
    run: RunFolder, split: Split, held: Held, ids: Tensor | None = None, label: Label | None = None
) -> Tensor:
    """Return the embeddings of images with latents held at values, `[n, d_embed]` unit on the CPU.

    Where the tail is a closed form, those of a whole split without labels are computed from the store. In
    all other cases the whole CLIP runs over the images.

    Args:
        run: an opened run on images.
        split: of its data.
        held: the latents, their values, and where they are.
        ids: `[n]` of the images; `None`: all of the split.
        label: printed on each of them.
    """
    data, held = run.data, held._replace(sae=held.sae.to(run.data.clip.device))
    tail = make_tail(data.clip, held.hook_point)
    if tail.needs == "nothing" and ids is None and label is None:
        store = ActivationStore(hook_folder(data.capture(split), held.hook_point), device=data.clip.device)
        parts = []
        for start in range(0, len(store), data.eval_batch_size):
            x = store.rows(start, min(start + data.eval_batch_size, len(store))).float()
            parts.append(tail(clamped(held.sae, x.to(data.clip.device), held.clamp)[:, None]).cpu())
        return torch.cat(parts)
    with holding(data.clip, held):
        batches = pixels(run, split, ids, label)
        return torch.cat([data.clip.encode_image(batch).float().cpu() for batch in batches])


def pixels(run: RunFolder, split: Split, ids: Tensor | None, label: Label | None = None) -> Iterator[Tensor]:
    """Yield images of a split as the CLIP takes them, `[b, 3, h, w]`, with a label on each of them if given.

    Args:
        run: an opened run on images.
        split: of its data.
        ids: `[n]` of the images; `None`: all of the split.
        label: to print.
    """
    images, clip = run.data.images(split), run.data.clip
    parts = torch.split(torch.arange(len(images)) if ids is None else ids, run.data.capture_batch_size)
    for part in track(parts, "looking at the images", unit="batches"):
        some = (images[i] for i in part.tolist())
        yield torch.stack([clip.preprocess(put_label(one, *label) if label else one) for one in some])
