"""A part of CLIP made linear: attention patterns, norms and gates are held at the values that they have.

What an activation is multiplied by is taken as a constant: the pattern of an attention, the denominator of a
layer norm, the gate of an activation function, `f(x) = x gate(x)`. What remains is an affine map that agrees
with the model at the activations at which it was held (the local replacement model of Ameisen et al. 2025,
*Circuit Tracing*, transformer-circuits.pub, with MLPs held as well).

Functions are replaced, not modules, so that the transformers of open_clip and timm are held alike. Whether
the result is affine is read off the graph of its gradient.
"""

from collections.abc import Callable, Sequence
from inspect import signature
from types import SimpleNamespace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lightning_sae.attribution.edges.affine import check_affine

Hold = Callable[[Callable[[], Tensor]], Tensor]
Map = Callable[..., Tensor]


class HeldMap:
    """A map as it is around some activations, all that is not linear in them held; affine in its arguments.

    Args:
        run: a map of tensors to a tensor, made of modules of PyTorch, open_clip and timm.
        at: the arguments at which it is held; it becomes affine in the ones that require a gradient.

    Attributes:
        value: what it gives there, with the graph to the arguments.

    Raises:
        ValueError: something that is not held is not linear; names it.

    Example:
        >>> x = torch.tensor([1.0, -2.0], requires_grad=True)
        >>> held = HeldMap(lambda x: nn.functional.relu(3 * x) + 1, (x,))
        >>> held.value.tolist(), held(torch.tensor([-5.0, 5.0])).tolist()
        ([4.0, 1.0], [-14.0, 1.0])
    """

    def __init__(self, run: Map, at: Sequence[Tensor | None]) -> None:
        self._run, self._kept = run, list[Tensor]()
        with _Holding(self._keep):
            self.value = run(*at)
        check_affine(self.value)

    def __call__(self, *arguments: Tensor | None) -> Tensor:
        """Return what it gives for other arguments of the same shapes."""
        kept = iter(self._kept)
        with _Holding(lambda _: next(kept)):
            return self._run(*arguments)

    def _keep(self, compute: Callable[[], Tensor]) -> Tensor:
        self._kept.append(compute().detach())
        return self._kept[-1]


class _Holding(TorchFunctionMode):
    """Calls the rules in place of their functions."""

    def __init__(self, hold: Hold) -> None:
        super().__init__()
        self.hold = hold

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _RULES:
            return _RULES[func](self.hold, func, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def __enter__(self) -> Self:
        super().__enter__()  # type: ignore[no-untyped-call]
        return self


def _constant(hold: Hold, func: Map, *args: Any, **kwargs: Any) -> Tensor:
    """Hold the value of a function itself: a pattern, or a gate that something is multiplied by."""
    return hold(lambda: func(*args, **kwargs))


def _gated(hold: Hold, func: Map, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Hold `f(x) / x` of a function with `f(0) = 0`; where `x = 0` any gate gives the value."""
    kwargs.pop("inplace", None)
    return x * hold(lambda: torch.where(x == 0, 0.0, func(x, *args, **kwargs) / x))


def _layer_norm(
    hold: Hold,
    _func: Map,
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    dims = list(range(-len(normalized_shape), 0))
    centred = x - x.mean(dims, keepdim=True)
    y = centred * hold(lambda: (x.var(dims, correction=0, keepdim=True) + eps).rsqrt())
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _unit(
    hold: Hold, _func: Map, x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None
) -> Tensor:
    return x * hold(lambda: x.norm(p, dim, keepdim=True).clamp_min(eps).reciprocal())


def _attention(
    hold: Hold,
    _func: Map,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    def pattern() -> Tensor:
        scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
        mask = torch.ones_like(scores, dtype=torch.bool).tril() if is_causal else attn_mask
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        return scores.softmax(-1)

    return hold(pattern) @ value


def _multihead_attention(hold: Hold, func: Map, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
    """Return what `nn.MultiheadAttention` computes, `[L, N, E]`; its own function hides the pattern."""
    bound = signature(func).bind(*args, **kwargs)
    bound.apply_defaults()
    given = SimpleNamespace(**bound.arguments)
    if given.bias_k is not None or given.add_zero_attn or given.key_padding_mask is not None:
        raise ValueError(
            "an attention with bias_k, add_zero_attn or key_padding_mask cannot be held: use rule=gradient"
        )
    if given.use_separate_proj_weight:
        weights = given.q_proj_weight, given.k_proj_weight, given.v_proj_weight
    else:
        weights = given.in_proj_weight.chunk(3)
    biases = (None,) * 3 if given.in_proj_bias is None else given.in_proj_bias.chunk(3)
    inputs = given.query, given.key, given.value
    query, key, value = (
        _heads(nn.functional.linear(x, weight, bias), given.num_heads)
        for x, weight, bias in zip(inputs, weights, biases, strict=True)
    )
    mask = given.attn_mask
    if mask is not None and mask.dtype == torch.bool:
        mask = ~mask  # there True is left out, here it takes part
    if mask is not None and mask.ndim == 3:
        mask = mask.view(-1, given.num_heads, *mask.shape[1:])
    joined = _attention(hold, func, query, key, value, mask).permute(2, 0, 1, 3).flatten(2)
    return nn.functional.linear(joined, given.out_proj_weight, given.out_proj_bias), None


def _heads(x: Tensor, n_heads: int) -> Tensor:
    """Return `[L, N, E]` -> `[N, heads, L, E / heads]`."""
    return x.reshape(*x.shape[:2], n_heads, -1).permute(1, 2, 0, 3)


_RULES: dict[Any, Callable[..., Any]] = {
    nn.functional.layer_norm: _layer_norm,
    nn.functional.normalize: _unit,
    nn.functional.scaled_dot_product_attention: _attention,
    nn.functional.multi_head_attention_forward: _multihead_attention,
    **dict.fromkeys([nn.functional.softmax, torch.softmax, Tensor.softmax], _constant),
    **dict.fromkeys([nn.functional.sigmoid, torch.sigmoid, Tensor.sigmoid], _constant),
    **dict.fromkeys(
        [
            nn.functional.gelu,
            nn.functional.silu,
            nn.functional.relu,
            torch.relu,
            Tensor.relu,
            nn.functional.mish,
            nn.functional.hardswish,
        ],
        _gated,
    ),
}
