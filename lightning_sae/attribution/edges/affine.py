"""Whether a tensor is an affine function of what it was made from: read off the graph of its gradient."""

from typing import Any

from torch import Tensor

_LINEAR = {
    *("AccumulateGrad", "Add", "Sub", "Neg", "Sum", "Mean", "Alias", "Clone", "ToCopy", "Cat", "Stack"),
    *("View", "UnsafeView", "ReshapeAlias", "Reshape", "T", "Transpose", "Permute", "Expand", "Repeat"),
    *("Squeeze", "Unsqueeze", "Select", "Slice", "Split", "SplitWithSizes", "Unbind", "Index", "Gather"),
    *("AvgPool2D", "AdaptiveAvgPool2D", "NativeBatchNorm", "CudnnBatchNorm", "ConstantPadNd", "Scatter"),
    *("SelectBackward", "Unflatten", "CopySlices", "AsStrided", "IndexAdd", "IndexPut", "Copy"),
}
_FACTORS = {"Mul": 0, "Mm": 0, "Bmm": 0, "Dot": 0, "Mv": 0, "Addmm": 1, "Baddbmm": 1, "Addbmm": 1}
_FACTORS |= {"Convolution": 0, "Linear": 0}
"""Products, with the place of their first factor: at most one of the factors may depend on the arguments."""


def check_affine(y: Tensor) -> None:
    """Refuse a tensor that is no affine function of the leaves that it has a gradient to.

    Raises:
        ValueError: names the first function that is not linear.

    Example:
        >>> import torch
        >>> x = torch.ones(2, requires_grad=True)
        >>> check_affine(3 * x + 1)
        >>> check_affine(x * x)
        Traceback (most recent call last):
        ValueError: the model cannot be held as a linear map, Mul of two activations is not linear ...
    """
    todo, seen = [y.grad_fn], {y.grad_fn}
    while todo:
        node = todo.pop()
        if node is None:
            continue
        if (wrong := _wrong(node)) is not None:
            raise ValueError(
                f"the model cannot be held as a linear map, {wrong} is not linear and has no rule: use "
                "rule=gradient, or hook points between which it does not lie"
            )
        after = [following for following, _ in node.next_functions if following not in seen]
        seen.update(after)
        todo += after


def _wrong(node: Any) -> str | None:
    """Return what is not linear in a function of the graph; `None` if it is."""
    name = node.name().rpartition("::")[2].rstrip("0123456789").removesuffix("Backward")
    depends = [following is not None for following, _ in node.next_functions]
    if name in _FACTORS:
        return f"{name} of two activations" if sum(depends[_FACTORS[name] :]) > 1 else None
    if name == "Div":
        return "Div by an activation" if len(depends) > 1 and depends[1] else None
    return None if name in _LINEAR else name
