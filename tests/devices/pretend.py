"""A device that is the CPU in disguise and refuses to be mixed with it, as a GPU does.

A tensor on `pretend:0` holds a CPU tensor; every operator runs on that, and one that is given tensors of both
devices raises PyTorch's own error. As on CUDA `.numpy()` is refused, `.item()` works, `copy_` and `to` go
across, and indices may lie on the CPU. Each operator that makes the host wait for a GPU is noted
with its place.

Limits: inference mode hands composite operators over whole, so that it is replaced by `no_grad` inside; the
backend is PyTorch's experimental one in Python (torch >= 2.10); every operator costs a dispatch in Python.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

ROOT = Path(__file__).parents[2]
ATEN = torch.ops.aten
ACROSS = {ATEN.copy_, ATEN._to_copy, ATEN.to}
INDEXING = {ATEN.index, ATEN.index_put, ATEN.index_put_, ATEN._index_put_impl_}
WAITING = {
    *(ATEN._local_scalar_dense, ATEN.nonzero, ATEN.masked_select, ATEN.bincount, ATEN.equal),
    *(ATEN._unique2, ATEN.unique_dim, ATEN.unique_consecutive),
}


class _Backend(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


_setup_privateuseone_for_python_backend("pretend", _Backend())
DEVICE = torch.device("pretend", 0)

_waits: list[list[str]] = []


@contextmanager
def waits() -> Iterator[list[str]]:
    """Lists where the host waits for the device inside the block: operator, file and line of this project."""
    places: list[str] = []
    _waits.append(places)
    try:
        yield places
    finally:
        _waits.remove(places)


def _note(operator: str) -> None:
    if not _waits:
        return
    ours = [frame for frame in traceback.extract_stack() if frame.filename.startswith(str(ROOT))]
    ours = [frame for frame in ours if Path(frame.filename).parent != Path(__file__).parent]
    place = f"{Path(ours[-1].filename).relative_to(ROOT)}:{ours[-1].lineno}" if ours else "elsewhere"
    for places in _waits:
        places.append(f"{operator} at {place}")


class Pretend(torch.Tensor):
    """A tensor on the pretend device; `elem` is the one on the CPU."""

    elem: torch.Tensor

    @staticmethod
    def __new__(cls, elem: torch.Tensor) -> "Pretend":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            elem.size(),
            strides=elem.stride(),
            storage_offset=elem.storage_offset(),
            dtype=elem.dtype,
            layout=elem.layout,
            device=DEVICE,
        )
        made.elem = elem
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Pretend({self.elem})"

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("can't convert pretend:0 device type tensor to numpy. Use Tensor.cpu() first.")

    __array__ = numpy

    def tolist(self) -> Any:
        _note("tolist")
        return self.elem.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _masks(operator: Any, args: Any) -> bool:
    """Whether an indexing is by a mask, whose entries a GPU has to count first."""
    given = args[1] if operator in INDEXING else []
    return any(isinstance(i, torch.Tensor) and i.dtype == torch.bool for i in given)


def _awaited(operator: Any, args: Any, kwargs: Any, ours: list[Pretend], here: bool) -> bool:
    if operator in WAITING or (operator is ATEN.repeat_interleave and kwargs.get("output_size") is None):
        return True
    return (operator in ACROSS and not here) or _masks(operator, args)


def _check_devices(func: Any, args: Any, kwargs: Any) -> None:
    """Refuses tensors of both devices in one operator; numbers, and indices of what is there, may mix."""
    operator = func.overloadpacket
    if operator in INDEXING:
        if not isinstance(args[0], Pretend):
            raise RuntimeError(
                "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
            )
        args = [args[0], *args[2:]]
    least = 0 if operator is ATEN.stack else 1
    flat, _ = tree_flatten((args, kwargs))
    others = [a for a in flat if isinstance(a, torch.Tensor) and not isinstance(a, Pretend)]
    if any(a.dim() >= least for a in others):
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, pretend:0 and "
            f"cpu! ({func})"
        )


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    operator = func.overloadpacket
    flat, _ = tree_flatten((args, kwargs))
    ours = [a for a in flat if isinstance(a, Pretend)]
    across = operator in ACROSS
    if ours and not across:
        _check_devices(func, args, kwargs)
    named = [a for a in flat if isinstance(a, torch.device)]
    wanted = kwargs.get("device", named[0] if named else None)
    here = bool(ours) if wanted is None else torch.device(wanted).type == "pretend"
    if operator is ATEN.copy_:
        here = isinstance(args[0], Pretend)
    if here and any(isinstance(a, torch.Generator) for a in flat):
        raise RuntimeError("Expected a 'pretend' device type for generator but found 'cpu'")
    if ours and _awaited(operator, args, kwargs, ours, here):
        _note(str(func))
    inner = tree_map(_plain, kwargs)
    if inner.get("device") is not None:
        inner["device"] = torch.device("cpu")
    if inner.get("pin_memory"):
        inner["pin_memory"] = False
    out = func(*tree_map(_plain, args), **inner)
    if operator is ATEN.copy_:
        return args[0]
    if not here:
        return tree_map(lambda o: o.clone() if across and any(o is p.elem for p in ours) else o, out)
    if across and not ours:
        return tree_map(lambda o: Pretend(o.clone() if any(o is p for p in flat) else o), out)
    known = {id(p.elem): p for p in ours}
    out = tree_map(lambda o: known[id(o)] if id(o) in known else _wrapped(o), out)
    if ours and not across and not torch.is_inference_mode_enabled():
        return return_and_correct_aliasing(func, args, kwargs, out)
    return out


def _plain(a: Any) -> Any:
    if isinstance(a, Pretend):
        return a.elem
    return torch.device("cpu") if isinstance(a, torch.device) else a


def on_the_cpu(structure: Any) -> Any:
    """Lists and dictionaries with the tensors as a file can hold them."""
    return tree_map(_plain, structure)


def _wrapped(o: Any) -> Any:
    return Pretend(o) if isinstance(o, torch.Tensor) and not isinstance(o, Pretend) else o


def _empty(size: Any, *, dtype: Any = None, **_: Any) -> Pretend:
    return Pretend(torch.empty(size, dtype=dtype))


def _empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> Pretend:
    return Pretend(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(source: torch.Tensor, to: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    if isinstance(source, Pretend) and not isinstance(to, Pretend):
        _note("copy to the CPU")
    _plain(to).copy_(_plain(source))
    return to


_library = torch.library.Library("aten", "IMPL")
_library.impl("_copy_from", _copy_from, "PrivateUse1")
_library.impl("empty.memory_format", _empty, "PrivateUse1")
_library.impl("empty_strided", _empty_strided, "PrivateUse1")


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _enter(mode: Any) -> None:
    """What inference mode does inside: also that of functions which were decorated before."""
    mode.instead = torch.no_grad() if mode.mode else torch.enable_grad()
    mode.instead.__enter__()


def _exit(mode: Any, *raised: Any) -> None:
    mode.instead.__exit__(*raised)


@contextmanager
def pretend() -> Iterator[torch.device]:
    """Makes the device there inside the block."""
    kind: Any = torch.inference_mode
    before = kind.__enter__, kind.__exit__
    kind.__enter__, kind.__exit__ = _enter, _exit
    try:
        with _Mode():
            yield DEVICE
    finally:
        kind.__enter__, kind.__exit__ = before
