"""The Triton kernels without a GPU: in Triton's interpreter, and compiled for an H100."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from lightning_sae.sae import backend, use_backend
from lightning_sae.sae.selection import top_k

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="PyTorch brings no Triton here")
SUM = {"values": "*fp32", "rows": "*fp32", "indices": "*i64", "offsets": "*i64", "sums": "*fp32"}
DOT = {"x": "*bf16", "rows": "*bf16", "tokens": "*i64", "indices": "*i64", "parts": "*fp32", "nnz": "i32"}
TOP = {"x": "*bf16", "winners": "*i64", "n_columns": "i32", "length": "i32", "k": "i32"}
PROGRAMS = {
    "find_largest": (TOP, {"SIZE": 4096, "GROUPS": 64}),
    "sum_rows": (SUM | {"width": "i32"}, {"ENTRIES": 32, "COLUMNS": 128}),
    "dot_rows": (DOT | {"width": "i32"}, {"ENTRIES": 32, "COLUMNS": 128}),
}


@needs_triton
def test_the_kernels_equal_the_dense_reference_in_the_interpreter() -> None:
    file = Path(__file__).with_name("triton_in_interpreter.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    environment = os.environ | {"TRITON_INTERPRET": "1"}  # Triton reads it when it is imported
    run = subprocess.run(command, env=environment, cwd=file.parents[2], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@needs_triton
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_programs_compile_for_an_h100(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import triton
    from triton.backends import backends
    from triton.backends.compiler import GPUTarget

    from lightning_sae.sae import triton_jit

    if "nvidia" not in backends or triton.knobs.runtime.interpret:
        pytest.skip("needs Triton's compiler for CUDA")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    types, constants = PROGRAMS[name]
    signature = types | dict.fromkeys(constants, "constexpr")
    source = triton.compiler.ASTSource(getattr(triton_jit, name), signature, constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 8})
    assert compiled.asm["cubin"]


@needs_triton
def test_tensors_on_the_cpu_stay_with_pytorch() -> None:
    with use_backend("triton"):
        assert top_k(torch.tensor([[1.0, 3.0, 2.0]]), 1).tolist() == [[1]]


@needs_triton
def test_the_choice_ends_with_the_block_also_after_an_error() -> None:
    with pytest.raises(RuntimeError, match="inside"), use_backend("triton"):
        raise RuntimeError("inside")
    assert backend._backend == "torch"


def test_a_backend_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="must be one of torch, triton, got 'cuda'"), use_backend("cuda"):
        pass


def test_without_triton_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match='use "torch"'), use_backend("triton"):
        pass
