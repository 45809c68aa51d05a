"""A tower as a sequence of stages that each take the output of the one before, and what follows the last."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from lightning_sae.clip.clip import Clip
from lightning_sae.clip.hook_point import HookPoint


class Stages(NamedTuple):
    """Stages of an image tower.

    Attributes:
        paths: of the stages, as hook points name them.
        modules: the stages.
        head: output of the last stage to image features, not of unit length.
        prefix: tokens before the patches.
        width: of a token; `None` where stages give feature maps.
    """

    paths: Sequence[str]
    modules: Sequence[nn.Module]
    head: Callable[[Tensor], Tensor]
    prefix: int = 0
    width: int | None = None

    def number(self, hook_point: HookPoint) -> int:
        """Return which of the stages is hooked, -1 for none."""
        return self.paths.index(hook_point.module) if hook_point.module in self.paths else -1


def stages_of(clip: Clip) -> Stages | None:
    """Return the stages of the image tower, or `None` for a tower that is not known to be such a sequence."""
    from open_clip.modified_resnet import ModifiedResNet
    from timm.models.convnext import ConvNeXt
    from timm.models.vision_transformer import VisionTransformer

    visual, trunk = clip.visual, getattr(clip.visual, "trunk", None)
    if is_own_vit(visual) and (visual.attn_pool is not None or visual.pool_type != "none"):
        return _vit(visual)
    if isinstance(visual, ModifiedResNet):
        layers = {f"visual.layer{i}": getattr(visual, f"layer{i}") for i in range(1, 5)}
        return Stages(list(layers), list(layers.values()), visual.attnpool)
    if type(trunk) is VisionTransformer:  # others override what happens between the blocks
        head = lambda grid: visual.head(trunk.forward_head(trunk.norm(grid)))  # noqa: E731
        names = _numbered("visual.trunk.blocks", trunk.blocks)
        return Stages(names, list(trunk.blocks), head, trunk.num_prefix_tokens, trunk.embed_dim)
    if type(trunk) is ConvNeXt:
        head = lambda grid: visual.head(trunk.forward_head(trunk.norm_pre(grid)))  # noqa: E731
        return Stages(_numbered("visual.trunk.stages", trunk.stages), list(trunk.stages), head)
    return None


def is_own_vit(visual: nn.Module) -> bool:
    """Return whether an image tower is a vision transformer of open_clip's own, and not one of timm."""
    from open_clip.transformer import VisionTransformer

    return isinstance(visual, VisionTransformer)


def _vit(visual: Any) -> Stages:
    def head(grid: Tensor) -> Tensor:
        pooled: Tensor = visual._pool(grid)[0]
        return pooled if visual.proj is None else pooled @ visual.proj

    blocks = visual.transformer.resblocks
    names = _numbered("visual.transformer.resblocks", blocks)
    return Stages(names, list(blocks), head, 1, visual.positional_embedding.shape[1])


def _numbered(path: str, modules: Iterable[nn.Module]) -> list[str]:
    return [f"{path}.{i}" for i, _ in enumerate(modules)]
