"""The frozen CLIP: loading, hook points (capture, splice) and the tail from a hook point to the embedding."""

from lightning_sae.clip.clip import Clip, load_clip
from lightning_sae.clip.hook_point import FINAL_TEXT, HookPoint, Tokens, short_names
from lightning_sae.clip.hooks import activations_at, capture, splice
from lightning_sae.clip.inspection import (
    HookShape,
    check_path,
    check_same_tokens,
    dry_inputs,
    inspect_hook_point,
)
from lightning_sae.clip.segment import Segment
from lightning_sae.clip.tail import Tail, capture_context, last_block, make_tail
from lightning_sae.clip.text_clip import TextClip
from lightning_sae.clip.titles import clip_titles, identity_titles
from lightning_sae.clip.token_rules import TokenRule

__all__ = [
    "FINAL_TEXT",
    "Clip",
    "HookPoint",
    "HookShape",
    "Segment",
    "Tail",
    "TextClip",
    "TokenRule",
    "Tokens",
    "activations_at",
    "capture",
    "capture_context",
    "check_path",
    "check_same_tokens",
    "clip_titles",
    "dry_inputs",
    "identity_titles",
    "inspect_hook_point",
    "last_block",
    "load_clip",
    "make_tail",
    "short_names",
    "splice",
]
