"""SAELens's evaluation of a run beside ours: `python benchmarks/saelens_evals.py RUN`.

In an environment of its own, or in that of `pip install -e ".[peers]"`:

    python -m venv peers && peers/bin/pip install -e . sae-lens
    peers/bin/python benchmarks/saelens_evals.py RUN

`sae_lens.evals.run_evals` is made for language models: its store hands out tokens of text, and its model
caches what a hook saw of them. Here both are stand-ins, whose tokens are places in the activations of the
run's validation images, so that everything it computes of activations alone runs on the exported autoencoder
as it is published.
"""

import math
import tempfile
from types import SimpleNamespace
from typing import Any

import torch
from exported import Exported, Line, compare_with, saelens_folder
from torch import Tensor

from lightning_sae.metrics import cosine, density, fvu, l0

CANNOT = {
    "kl_div_score, ce_loss_score": "the loss of the next token, with logits of a language model; ours is the "
    "zero-shot accuracy with the reconstruction spliced in",
}


class Activations:
    """A model of which a hook saw known activations, and the store of the tokens that stand for them."""

    tokenizer = None

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self.context_size, self.store_batch_size_prompts = x.shape[1], len(x)

    def get_batch_tokens(self, batch_size: int) -> Tensor:
        """Return `[n, t]`, all images in one batch."""
        return torch.arange(self.x.shape[0] * self.x.shape[1]).view(self.x.shape[:2])

    def run_with_cache(
        self, tokens: Tensor, names_filter: list[str], **_: Any
    ) -> tuple[None, dict[str, Tensor]]:
        """Return no output, and what the hook saw."""
        return None, {names_filter[0]: self.x.flatten(0, 1)[tokens]}


@torch.no_grad()
def scores(exported: Exported) -> list[Line]:
    """Return all scores that can be computed."""
    from sae_lens import SAE
    from sae_lens.evals import EvalConfig, run_evals
    from sae_lens.training.activation_scaler import ActivationScaler

    with tempfile.TemporaryDirectory() as within:
        sae: Any = SAE.load_from_disk(saelens_folder(exported, within))
    wanted = ("l2_norms", "sparsity_metrics", "variance_metrics", "featurewise_density_statistics")
    config = EvalConfig(**{f"compute_{name}": True for name in wanted})
    known: Any = Activations(exported.x)
    found, by_latent = run_evals(sae, known, known, ActivationScaler(), config, exclude_special_tokens=False)
    x, x_hat, latents = exported.tokens, exported.x_hat, exported.latents
    quality, shrinkage = (SimpleNamespace(**found[name]) for name in ("reconstruction_quality", "shrinkage"))
    ours, theirs = density(latents), torch.tensor(by_latent["feature_density"])
    mse, l1 = (x - x_hat).square().sum(1).mean(), latents.values.sum() / len(latents)
    ratio = (x_hat.norm(dim=1) / x.norm(dim=1)).mean()
    return [
        ("explained variance", quality.explained_variance, 1 - fvu(x, x_hat), "1 - FVU"),
        ("   legacy", quality.explained_variance_legacy, math.nan, "a mean of ratios: not ours"),
        ("mse", quality.mse, mse, "the same definition"),
        ("cosine", quality.cossim, cosine(x, x_hat), "the same definition"),
        ("L0", found["sparsity"]["l0"], l0(latents), "the same definition"),
        ("l1", found["sparsity"]["l1"], l1, "not logged"),
        ("l2 ratio", shrinkage.l2_ratio, ratio, "not logged"),
        ("silent on val", (theirs == 0).float().mean(), (ours == 0).float().mean(), "`dead` is on train"),
        ("density, largest difference", (theirs - ours).abs().max(), 0.0, "of a latent"),
    ]


if __name__ == "__main__":
    compare_with("sae_lens", "SAELens", __doc__ or "", scores, CANNOT)
