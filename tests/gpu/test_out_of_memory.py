"""A GPU that is too small, for real; little of a large one is let be used, so that it is soon full."""

import gc

import pytest
import torch

from lightning_sae.devices.gpu_memory import check_room

GIB = 2**30
D_IN = 128  # of the embedded world


@pytest.fixture
def small_gpu(device):
    """Lets this process take one GiB more than it has."""
    gc.collect()
    torch.cuda.empty_cache()
    allowed = torch.cuda.memory_reserved(device) + GIB
    torch.cuda.set_per_process_memory_fraction(allowed / torch.cuda.mem_get_info(device)[1], device)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0, device)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_too_many_latents_end_in_one_message(train_here, small_gpu, tmp_path):
    latents = GIB // 2 // (2 * D_IN * 4)  # half a GiB of weights, and as much of gradients
    short = ["trainer.max_steps=2", "trainer.num_sanity_val_steps=0", "callbacks=[progress]"]
    said = train_here(tmp_path, f"sae.d_sae={latents}", *short)
    assert isinstance(said, str), said
    assert "OutOfMemoryError: cuda:0 (" in said
    assert "ran out of memory while the autoencoder was trained.\nCUDA out of memory. Tried to" in said
    assert "What helps:\n" in said
    assert "\n  sae.d_sae=N " in said


def test_there_is_no_room_for_more_than_is_free(device):
    free = torch.cuda.mem_get_info(device)[0]
    check_room(free // 8, device)
    with pytest.raises(ValueError, match=r"has no room to train .*GiB of .* GiB are free"):
        check_room(free // 2, device)
