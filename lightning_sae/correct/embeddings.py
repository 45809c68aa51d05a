"""The images of a split as a correction sees them: embeddings, culprits, classes, groups."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.clip import make_tail
from lightning_sae.correct.clamp import Clamp, clamped, clamping
from lightning_sae.data import ActivationStore, hook_folder
from lightning_sae.data.images.image_set import Split
from lightning_sae.data.store.shards import read_tensor
from lightning_sae.metrics.group_errors import OUTSIDE, UNKNOWN
from lightning_sae.runs.folder import RunFolder


class CulpritView(NamedTuple):
    """Some images.

    Attributes:
        embeddings: `[n, d_embed]` unit.
        activations: `[n, m]` of the culprits, the largest over an image's tokens.
        targets: `[n]` int64, class of the classifier; `UNKNOWN`, or `OUTSIDE` of all of them.
        factors: factor -> (its values, `[n]` int64, -1 for none); the class is none of them.
    """

    embeddings: Tensor
    activations: Tensor
    targets: Tensor
    factors: Mapping[str, tuple[Sequence[str], Tensor]]


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
        active = sae.encode(x).columns(torch.tensor(latents)).to_dense()
        parts.append(active.view(-1, t, len(latents)).amax(1).float().cpu())
    images = data.images(split)
    embeddings = read_tensor(folder / "images", "embeddings").float()
    targets = renumbered(images.targets, images.class_names, class_names)
    return CulpritView(embeddings, torch.cat(parts), targets, dict(images.factors))


def renumbered(targets: Tensor, data_names: Sequence[str], class_names: Sequence[str]) -> Tensor:
    """Return the targets of the data in the numbers of a classifier that may have fewer classes, or others.

    Example:
        >>> renumbered(torch.tensor([0, 1, -1]), ["cat", "dog"], ["dog", "horse"]).tolist()
        [-2, 0, -1]
    """
    places = [list(class_names).index(name) if name in class_names else OUTSIDE for name in data_names]
    return torch.tensor([*places, UNKNOWN])[targets]


@torch.no_grad()
def embed_clamped(run: RunFolder, split: Split, clamp: Clamp) -> Tensor:
    """Return the embeddings of a split's images with latents held at values, `[n, d_embed]` unit on the CPU.

    From the store where the tail is a closed form, else by a pass of the whole CLIP over the images.
    """
    data, sae = run.data, run.sae.to(run.data.clip.device)
    tail = make_tail(data.clip, data.hook)
    parts = []
    if tail.needs == "nothing":
        store = ActivationStore(hook_folder(data.capture(split), data.hook), device=data.clip.device)
        for start in range(0, len(store), data.eval_batch_size):
            x = store.rows(start, min(start + data.eval_batch_size, len(store))).float()
            parts.append(tail(clamped(sae, x.to(data.clip.device), clamp)[:, None]).cpu())
        return torch.cat(parts)
    images = data.images(split)
    with clamping(data.clip, data.hook, sae, clamp):
        for ids in torch.split(torch.arange(len(images)), data.capture_batch_size):
            pixels = torch.stack([data.clip.preprocess(images[i]) for i in ids.tolist()])
            parts.append(data.clip.encode_image(pixels).cpu())
    return torch.cat(parts)
