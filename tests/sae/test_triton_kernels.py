"""The Triton kernels without a GPU: in Triton's interpreter, and compiled for two generations of GPUs."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lightning_sae.sae import TopK
from lightning_sae.sae.kernels import backend
from lightning_sae.sae.kernels.backend import uses_triton

needs_triton = pytest.mark.skipif(
    not (find_spec("triton") and find_spec("triton.knobs")), reason="needs Triton 3.4, of PyTorch 2.8"
)

TYPES = {
    **dict.fromkeys(("indices", "offsets", "tokens", "order", "ends", "starts", "n_kept", "length"), "*i64"),
    **dict.fromkeys(("found", "counts", "latents"), "*i32"),
    **dict.fromkeys(
        ("n_columns", "n_groups", "wanted", "width", "nnz", "n", "k", "n_entries", "room"), "i32"
    ),
    **dict.fromkeys(("n_first", "d_sae"), "i32"),
    "kept": "*i8",
}
ODD = ("k", "wanted", "n")  # numbers that need not be multiples of 16
ROW = {"LANES": 1024, "GROUP": 16, "MASKED": True}
PROGRAMS: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "group_maxima": ("*bf16", {}, {"GROUP": 16, "BLOCK": 256, "MASKED": True}),
    "collect": ("*bf16", {"cuts": "*fp32"}, {"CAP": 128, "GROUPS": 2048, **ROW}),
    "collect_above": (
        "*bf16",
        {"counts": "*i64"},
        {"LANES": 1024, "GROUP": 16, "WRITE": True},
    ),
    "rank_again": ("*fp32", {}, {"PART": 32, "COLUMNS": 128, "SLICE": 128}),
    "choose": ("*fp32", {}, {"SLICES": 8, "CAP": 128, "num_warps": 1}),
    "count_digit": ("*fp32", {"counts": "*i64"}, {"DIGIT": 3, "WIDTH": 32, "BLOCK": 4096}),
    "sum_rows": ("*fp32", {}, {"ENTRIES": 32, "COLUMNS": 128}),
    "dot_rows": ("*bf16", {"parts": "*fp32"}, {"ENTRIES": 32, "COLUMNS": 128}),
    "residuals": (
        "*fp32",
        {},
        {"PREFIXES": 1, "ENTRIES": 64, "COLUMNS": 64, "GUARDED": False, "LONG": False},
    ),
    "residuals of BatchTopK": (
        "*fp32",
        {},
        {"PREFIXES": 1, "ENTRIES": 128, "COLUMNS": 32, "GUARDED": False, "LONG": True},
    ),
    "residuals of Matryoshka": (
        "*fp32",
        {},
        {"PREFIXES": 5, "ENTRIES": 128, "COLUMNS": 32, "GUARDED": False, "LONG": True},
    ),
    "residuals of AuxK": (
        "*fp32",
        {},
        {"PREFIXES": 1, "ENTRIES": 16, "COLUMNS": 256, "GUARDED": True, "LONG": False},
    ),
    "residuals in bf16": (
        "*bf16",
        {"values": "*fp32", "squares": "*fp32", "products": "*fp32"},
        {"PREFIXES": 1, "ENTRIES": 64, "COLUMNS": 64, "GUARDED": False, "LONG": False},
    ),
    "rank_again in bf16": (
        "*bf16",
        {"scores": "*fp32", "counts": "*i64"},
        {"PART": 32, "COLUMNS": 128, "SLICE": 1024},
    ),
    "count_digit first": ("*bf16", {"counts": "*i64"}, {"DIGIT": 0, "WIDTH": 16, "BLOCK": 4096}),
    "sum_by_latent in bf16": (
        "*bf16",
        {"weights": "*fp32", "pieces": "*fp32", "others": "*fp32", "rows": "*fp32", "out": "*fp32"},
        {"LENGTH": 256, "MANY": 4, "COLUMNS": 1024, "PARALLEL": True},
    ),
    "group_maxima of all": ("*fp32", {}, {"GROUP": 1, "BLOCK": 4096, "MASKED": False}),
    "collect in float32": ("*fp32", {}, {"CAP": 128, "GROUPS": 2048, **ROW}),
    "add_row": ("*fp32", {}, {"COLUMNS": 1024}),
    "sum_pieces": ("*fp32", {}, {"LENGTH": 256, "MANY": 4, "COLUMNS": 256, "num_warps": 2}),
    "sum_by_latent": (
        "*fp32",
        {},
        {"LENGTH": 256, "MANY": 4, "COLUMNS": 256, "PARALLEL": True, "num_warps": 2},
    ),
    "unit_rows": ("*fp32", {"tiny": "fp32"}, {"WIDTH": 1024}),
    "sum_values": ("*fp32", {}, {"MANY": 128, "num_warps": 1}),
}


@needs_triton
@pytest.mark.slow
def test_the_kernels_equal_the_dense_reference_in_the_interpreter() -> None:
    file = Path(__file__).with_name("triton_in_interpreter.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    environment = os.environ | {"TRITON_INTERPRET": "1"}  # Triton reads it when it is imported
    run = subprocess.run(command, env=environment, cwd=file.parents[2], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def program(name: str) -> Any:
    from lightning_sae.sae.kernels.triton_jit import products, selection

    name = name.split()[0]
    return getattr(selection, name, None) or getattr(products, name)


def resources(cubin: bytes, folder: Path) -> tuple[int, int]:
    """Registers of a thread, and bytes that it spills to local memory."""
    import triton

    file = folder / "program.cubin"
    file.write_bytes(cubin)
    command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", str(file)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack, local = (re.search(rf"{key}:(\d+)", said) for key in ("REG", "STACK", "LOCAL"))
    assert registers, said
    assert stack, said
    assert local, said
    return int(registers[1]), int(stack[1]) + int(local[1])


@needs_triton
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_compiles_and_spills_nothing(
    name: str, capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import triton
    from triton.backends import backends
    from triton.backends.compiler import GPUTarget

    if "nvidia" not in backends or triton.knobs.runtime.interpret:
        pytest.skip("needs Triton's compiler for CUDA")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    floats, types, settings = PROGRAMS[name]
    constants = {key: value for key, value in settings.items() if key.isupper()}
    names = [key for key in program(name).arg_names if key not in constants]
    signature = {key: types.get(key, TYPES.get(key, floats)) for key in names}
    signature |= dict.fromkeys(constants, "constexpr")
    # as at run time, where rows are multiples of 16 and so loaded 16 bytes at a time
    aligned = [i for i, key in enumerate(program(name).arg_names) if key in names and key not in ODD]
    attributes = {(i,): [["tt.divisibility", 16]] for i in aligned}
    source = triton.compiler.ASTSource(program(name), signature, constants, attributes)
    options = {"num_warps": settings.get("num_warps", 4)}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    registers, spilled = resources(compiled.asm["cubin"], tmp_path)
    print(f"{name} for sm_{capability}: {registers} registers, {spilled} bytes spilled")
    assert spilled == 0
    assert registers <= 255


@needs_triton
def test_all_programs_are_compiled_here() -> None:
    from triton.runtime import JITFunction

    from lightning_sae.sae.kernels.triton_jit import products, selection

    ours = {
        name
        for module in (products, selection)
        for name, value in vars(module).items()
        if isinstance(value, JITFunction) and ("tl.store" in value.src or "tl.atomic" in value.src)
    }
    assert ours == {name.split()[0] for name in PROGRAMS}


@pytest.mark.parametrize("kernels", ["auto", "torch", "triton"])
def test_tensors_on_the_cpu_and_in_float64_stay_with_pytorch(kernels: backend.Kernels) -> None:
    assert not uses_triton(torch.zeros(1), kernels)
    assert not uses_triton(torch.zeros(1, dtype=torch.float64), kernels)


def test_kernels_that_there_are_not() -> None:
    with pytest.raises(ValueError, match="kernels must be one of auto, torch, triton, got cuda"):
        TopK(4, 8, 2, kernels="cuda")  # type: ignore[arg-type]


def test_without_triton_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "find_spec", lambda name: None)
    on_a_gpu: Any = SimpleNamespace(dtype=torch.float32, is_cuda=True)
    with pytest.raises(ModuleNotFoundError, match="use kernels=auto or torch"):
        uses_triton(on_a_gpu, "triton")


@pytest.mark.skipif(find_spec("triton") is None, reason="PyTorch brings no Triton here")
@pytest.mark.parametrize(
    ("capability", "version", "said"),
    [((7, 0), "3.4.0", "the GPU is older than .* 8.0"), ((8, 0), "3.3.1", "Triton 3.3.1 is older than 3.4")],
)
def test_where_triton_does_not_compile_one_warning_says_so(
    capability: tuple[int, int], version: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    monkeypatch.setattr("triton.__version__", version)
    backend._compiles.cache_clear()
    with pytest.warns(UserWarning, match=f"slower kernels are: {said}"):
        assert not backend._compiles(0)
    assert not backend._compiles(0)  # said once
    backend._compiles.cache_clear()
