"""Hook points with their autoencoders, and images as they are seen at all of them."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple, Self

import torch
from torch import Tensor

from lightning_sae.attribution.edges.layer import Layer as Layer
from lightning_sae.attribution.explained import CHUNK, Explained
from lightning_sae.clip import Clip, HookPoint, Segment, Tail, activations_at, check_path, make_tail
from lightning_sae.mappings import check_clip


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


class CapturedLayer(NamedTuple):
    """Images as a CLIP has them at one of several hook points: no autoencoder changes that.

    Attributes:
        hook_point: where.
        x: `[n, t, d_in]` activations there.
        tail: from there to the embeddings.
        onward: from there to the next hook point, from the last one to the embeddings.
        context: what the tail needs beside `x`, or `None`.
        onward_context: what `onward` needs.
        image_ids: `[n]` int64, or `None`.
    """

    hook_point: HookPoint
    x: Tensor
    tail: Tail
    onward: Tail | Segment
    context: Tensor | None
    onward_context: Tensor | None
    image_ids: Tensor | None

    def see(self, layer: Layer) -> SeenLayer:
        """Return the images with what the autoencoder of the hook point sees in them.

        Raises:
            ValueError: it takes activations of another width.
        """
        sae, x = layer.sae, self.x
        if sae.d_in != x.shape[-1]:
            raise ValueError(
                f"the autoencoder for {self.hook_point} takes activations of width {sae.d_in}, but there "
                f"they have {x.shape[-1]}: give it with its own hook point and CLIP"
            )
        # tensors made in inference mode cannot enter a graph
        with torch.inference_mode(False), torch.no_grad():
            x_hat, latents = sae(x.flatten(0, 1))
            bias = sae.bias(x.flatten(0, 1)).to(x)
            explained = Explained(
                self.tail,
                sae.W_dec.detach().to(x),
                x,
                x_hat.view_as(x).to(x),
                latents.with_values(latents.values.to(x)),
                self.context,
                self.image_ids,
            )
        return SeenLayer(
            layer,
            explained,
            explained._replace(tail=self.onward, context=self.onward_context),
            bias if bias.ndim == 1 else bias.view_as(x),
        )


def check_layers(clip: Clip, layers: Sequence[Layer], strict: bool = True) -> None:
    """Refuse layers between which there are no edges.

    Args:
        clip: the model; a `TextClip` for layers of the text tower.
        layers: from the earliest to the latest.
        strict: `False` accepts autoencoders of another CLIP.

    Raises:
        ValueError: no layers; hook points that `check_path` refuses; an autoencoder that was trained for
            another CLIP, hook point or token rule.
    """
    if not layers:
        raise ValueError("edges need at least one layer, a hook point with its autoencoder; got none")
    check_path(clip, [layer.hook_point for layer in layers])
    for layer in layers:
        hook_point, known = layer.hook_point, layer.sae.provenance
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
    check_layers(clip, layers, strict)
    hook_points = [layer.hook_point for layer in layers]
    captured = capture_layers(clip, hook_points, inputs, image_ids, batch_size)
    return [part.see(layer) for part, layer in zip(captured, layers, strict=True)]


def capture_layers(
    clip: Clip,
    hook_points: Sequence[HookPoint],
    inputs: Tensor,
    image_ids: Tensor | None = None,
    batch_size: int = CHUNK,
) -> list[CapturedLayer]:
    """Return preprocessed examples as the CLIP has them at all hook points, by one forward.

    Args:
        clip: the model; a `TextClip` for the text tower.
        hook_points: that `check_path` accepts.
        inputs: images `[n, 3, H, W]`, or token ids `[n, context]`.
        image_ids: `[n]` int64; `None`: numbered from 0.
        batch_size: examples in one forward.

    Raises:
        ValueError: no examples.
    """
    if len(inputs) == 0:
        raise ValueError("edges need at least one image, got none")
    tails = [make_tail(clip, hook_point) for hook_point in hook_points]
    onward: list[Tail | Segment] = [
        *(Segment(tail, stop) for tail, stop in zip(tails, hook_points[1:], strict=False)),
        tails[-1],
    ]
    places = list(zip(hook_points, tails, onward, strict=True))
    wanted = list(dict.fromkeys(chain(*(_wanted(*place) for place in places))))
    with torch.inference_mode(False), torch.no_grad():
        parts = [activations_at(clip, wanted, part) for part in torch.split(inputs, batch_size)]
        found = {hook_point: torch.cat([part[hook_point] for part in parts]) for hook_point in wanted}
    captured = []
    for hook_point, tail, after in places:
        contexts = {
            "nothing": None,
            "grid": found.get(_grid(hook_point)),
            "inputs": inputs.to(clip.device),
        }
        here = hook_point, found[hook_point], tail, after, contexts[tail.needs], contexts[after.needs]
        captured.append(CapturedLayer(*here, image_ids))
    return captured


def _wanted(hook_point: HookPoint, *maps: Tail | Segment) -> list[HookPoint]:
    """Return what must be captured for the maps that start at a hook point."""
    return [hook_point, *[_grid(hook_point) for part in maps if part.needs == "grid"]]


def _grid(hook_point: HookPoint) -> HookPoint:
    return HookPoint(hook_point.module, "all")
