"""Capture in bf16 on a GPU, against open_clip's model called by hand."""

import pytest
import torch

from lightning_sae.clip import HookPoint, load_clip
from lightning_sae.data.capture.capture import Capture
from lightning_sae.data.sources.world import WorldImages
from lightning_sae.data.store.layout import hook_folder
from lightning_sae.data.store.shards import read_tensor

BLOCK, BATCH = 5, 16
POINT = HookPoint(f"visual.transformer.resblocks.{BLOCK}", "all")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_store_in_bf16_holds_what_the_model_gives(device, tmp_path):
    torch.manual_seed(0)
    clip = load_clip("ViT-B-32", precision="bf16").to(device)
    images = WorldImages(n_train=2 * BATCH, n_val=1, n_test=1).split("train")
    folder = Capture(
        images, clip, [POINT], store_dir=tmp_path, batch_size=BATCH, shard_images=BATCH, num_workers=2
    ).fill()
    stored = read_tensor(hook_folder(folder, POINT), "x")
    embeddings = read_tensor(folder / "images", "embeddings")

    seen = []
    block = clip.model.visual.transformer.resblocks[BLOCK]
    handle = block.register_forward_hook(lambda module, inputs, output: seen.append(output.float().cpu()))
    for ids in torch.split(torch.arange(len(images)), BATCH):
        pixels = torch.stack([clip.preprocess(images[i]) for i in ids.tolist()]).to(device, torch.bfloat16)
        with torch.inference_mode():
            features = clip.model.encode_image(pixels).float()
        expected = torch.nn.functional.normalize(features, dim=-1).cpu()
        torch.testing.assert_close(embeddings[ids], expected, rtol=0, atol=1e-6)
    handle.remove()
    assert clip.device.type == device.type
    assert torch.equal(stored, torch.cat(seen))
