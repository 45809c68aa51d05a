import pytest
import torch

from lightning_sae.data import cached_tensor


@pytest.fixture
def calls():
    return []


def counted(calls, value):
    def compute():
        calls.append(value)
        return torch.full((2, 3), value)

    return compute


def test_a_hit_computes_nothing(tmp_path, calls):
    miss = cached_tensor(tmp_path / "a", "null", {"n": 1, "labels": ["x"]}, counted(calls, 1.0))
    hit = cached_tensor(tmp_path / "a", "null", {"labels": ["x"], "n": 1}, counted(calls, 2.0))
    assert calls == [1.0]
    assert torch.equal(miss, hit)


@pytest.mark.parametrize("other", [{"n": 2}, {"n": 1, "seed": 0}])
def test_another_key_is_a_miss(tmp_path, calls, other):
    cached_tensor(tmp_path, "null", {"n": 1}, counted(calls, 1.0))
    assert cached_tensor(tmp_path, "null", other, counted(calls, 2.0))[0, 0] == 2
    assert cached_tensor(tmp_path, "texts", {"n": 1}, counted(calls, 3.0))[0, 0] == 3
    assert len(list(tmp_path.glob("*.safetensors"))) == 3


def test_a_failure_leaves_no_file(tmp_path, calls):
    def fail():
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        cached_tensor(tmp_path, "null", {}, fail)
    assert cached_tensor(tmp_path, "null", {}, counted(calls, 1.0))[0, 0] == 1
    assert {path.suffix for path in tmp_path.iterdir() if path.name != ".lock"} == {".safetensors"}


def test_what_is_made_in_inference_mode_may_enter_autograd(tmp_path):
    with torch.inference_mode():
        cached_tensor(tmp_path, "x", {}, lambda: torch.arange(6.0).view(2, 3).T)
    x = cached_tensor(tmp_path, "x", {}, torch.empty)
    assert x.requires_grad_().sum().item() == 15
