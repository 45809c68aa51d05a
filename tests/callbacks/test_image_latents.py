"""The file of image latents against the autoencoder on the whole split."""

import pytest
import torch

from callbacks.image_latents import SaveImageLatents
from lightning_sae.data.images.image_set import digest
from lightning_sae.runs.image_latents import choose_images, load_image_latents


@pytest.mark.parametrize("images", [50, 1000])
def test_the_file_has_the_latents_of_the_chosen_images(fit, tmp_path, images):
    run = fit(tmp_path, {"image_latents": SaveImageLatents(images)}, max_steps=4)
    found = load_image_latents(tmp_path)
    want = choose_images(160, images)
    assert torch.equal(found.image_ids, want)
    x = torch.cat([batch.x for batch in run.data.val_dataloader()])
    with torch.no_grad():
        latents = run.module.sae.encode(x[want]).to_dense()
    torch.testing.assert_close(found.latents.to_dense(), latents, atol=1e-5, rtol=1e-5)
    assert found.images == digest(run.data.images("val").identity())


def test_it_wants_an_image_at_least():
    with pytest.raises(ValueError, match="images must be at least 1, got 0"):
        SaveImageLatents(0)
