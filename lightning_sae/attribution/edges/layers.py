"""Hook points with their autoencoders, and images as they are seen at all of them."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple, Self

import torch
from torch import Tensor

from lightning_sae.attribution.explained import CHUNK, Explained
from lightning_sae.clip import Clip, HookPoint, Segment, Tail, activations_at, check_order, make_tail
from lightning_sae.mappings import check_clip
from lightning_sae.sae import SparseAutoencoder


class Layer(NamedTuple):
    """A hook point and the autoencoder of its activations."""

    hook_point: HookPoint
    sae: SparseAutoencoder

    @classmethod
    def of(cls, sae: SparseAutoencoder) -> Self:
        """Return the layer that a saved autoencoder was trained for.

        Raises:
            ValueError: it does not say which.
        """
        known = sae.provenance
        if not {"hook_point", "tokens"} <= known.keys():
            raise ValueError(
                "the autoencoder does not say which hook point it was trained for: load a saved one, or give "
                "Layer(HookPoint(MODULE, TOKENS), sae)"
            )
        return cls(HookPoint(known["hook_point"], known["tokens"]), sae)


class SeenLayer(NamedTuple):
    """Images at one of several layers.

    Attributes:
        layer: the layer.
        explained: the images there; its tail gives embeddings.
        onward: the same images; its tail gives the activations at the next layer, for the last one the
            embeddings.
        bias: `[d_in]`, or `[n, t, d_in]` where each token has its own: the reconstruction of no latents.
    """

    layer: Layer
    explained: Explained
    onward: Explained
    bias: Tensor

    def images(self, start: int, stop: int) -> Self:
        """Return the images `start..stop-1`, as views."""
        bias = self.bias if self.bias.ndim == 1 else self.bias[start:stop]
        explained, onward = self.explained.images(start, stop), self.onward.images(start, stop)
        return self._replace(explained=explained, onward=onward, bias=bias)

    def keep(self, mask: Tensor) -> Self:
        """Return the images where `mask` `[n]` is true, copied."""
        bias = self.bias if self.bias.ndim == 1 else self.bias[mask]
        return self._replace(explained=self.explained.keep(mask), onward=self.onward.keep(mask), bias=bias)

    @property
    def error(self) -> Tensor:
        """`[n, t, d_in]`, what the autoencoder does not reconstruct."""
        return self.explained.x - self.explained.x_hat


def check_layers(clip: Clip, layers: Sequence[Layer], inputs: Tensor, strict: bool = True) -> None:
    """Refuse layers between which there are no edges.

    Args:
        clip: the model; a `TextClip` for layers of the text tower.
        layers: from the earliest to the latest.
        inputs: a preprocessed example.
        strict: `False` accepts autoencoders of another CLIP.

    Raises:
        ValueError: no layers; hook points of different towers, of one module or out of order; an autoencoder
            that was trained for another CLIP, hook point or token rule.
    """
    if not layers:
        raise ValueError("edges need at least one layer, a hook point with its autoencoder; got none")
    check_order(clip, [layer.hook_point for layer in layers], inputs)
    for hook_point, sae in layers:
        known = sae.provenance
        trained_for = (known.get("hook_point", hook_point.module), known.get("tokens", hook_point.tokens))
        if trained_for != tuple(hook_point):
            raise ValueError(
                f"the autoencoder for {hook_point} was trained for {HookPoint(*trained_for)}: their tokens "
                "are others; give it with its own hook point, Layer.of(sae)"
            )
        if strict and "clip" in known:
            check_clip(f"the autoencoder for {hook_point}", known["clip"], clip.identity())


def look(
    clip: Clip,
    layers: Sequence[Layer],
    inputs: Tensor,
    image_ids: Tensor | None = None,
    batch_size: int = CHUNK,
    strict: bool = True,
) -> list[SeenLayer]:
    """Return preprocessed examples as they are seen at all layers, by one forward of the CLIP.

    Args:
        clip: the model; a `TextClip` for layers of the text tower.
        layers: from the earliest to the latest.
        inputs: images `[n, 3, H, W]`, or token ids `[n, context]`.
        image_ids: `[n]` int64; `None`: numbered from 0.
        batch_size: examples in one forward.
        strict: `False` accepts autoencoders of another CLIP.

    Raises:
        ValueError: no examples, or layers that `check_layers` refuses.
    """
    if len(inputs) == 0:
        raise ValueError("edges need at least one image, got none")
    check_layers(clip, layers, inputs[:1], strict)
    tails = [make_tail(clip, layer.hook_point) for layer in layers]
    onward: list[Tail | Segment] = [
        *(Segment(tail, layer.hook_point) for tail, layer in zip(tails, layers[1:], strict=False)),
        tails[-1],
    ]
    pairs = list(zip(layers, tails, onward, strict=True))
    wanted = [_wanted(*pair) for pair in pairs]
    with torch.inference_mode(False), torch.no_grad():
        parts = [
            activations_at(clip, list(dict.fromkeys(chain(*wanted))), part)
            for part in torch.split(inputs, batch_size)
        ]
        found = {hook_point: torch.cat([part[hook_point] for part in parts]) for hook_point in parts[0]}
        return [_see(*pair, found, inputs.to(clip.device), image_ids) for pair in pairs]


def _wanted(layer: Layer, *maps: Tail | Segment) -> list[HookPoint]:
    """Return what must be captured for the maps that start at a layer."""
    return [layer.hook_point, *[_grid(layer) for part in maps if part.needs == "grid"]]


def _grid(layer: Layer) -> HookPoint:
    return HookPoint(layer.hook_point.module, "all")


def _see(
    layer: Layer,
    tail: Tail,
    onward: Tail | Segment,
    found: Mapping[HookPoint, Tensor],
    inputs: Tensor,
    image_ids: Tensor | None,
) -> SeenLayer:
    contexts = {"nothing": None, "grid": found.get(_grid(layer)), "inputs": inputs}
    x = found[layer.hook_point]
    x_hat, latents = layer.sae(x.flatten(0, 1))
    bias = layer.sae.bias(x.flatten(0, 1)).to(x)
    explained = Explained(
        tail,
        layer.sae.W_dec.detach().to(x),
        x,
        x_hat.view_as(x).to(x),
        latents.with_values(latents.values.to(x)),
        contexts[tail.needs],
        image_ids,
    )
    return SeenLayer(
        layer,
        explained,
        explained._replace(tail=onward, context=contexts[onward.needs]),
        bias if bias.ndim == 1 else bias.view_as(x),
    )
