"""Training steps of the public TopK autoencoders, each as its package ships it.

`pip install -e ".[peers]"` brings all of them. What cannot be imported is left out, with the reason.
None of their latents is dead, so no AuxK term is computed.
"""

import os
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

Step = Callable[[Tensor], Any]
ALIVE_FOR = 10**9  # steps or tokens without a firing until a latent is dead


def eai_sparsify(d_in: int, d_sae: int, k: int, fused: bool, device: str) -> Step:
    """Return the signed SGD, unit norm, parallel gradient."""
    if not torch.cuda.is_available() or device == "cpu":
        os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # its own switch to PyTorch
    from sparsify import SparseCoder, SparseCoderConfig
    from sparsify.sign_sgd import SignSGD

    coder = SparseCoder(d_in, SparseCoderConfig(num_latents=d_sae, k=k), device=device)
    lr = 5e-3 / (d_sae / 2**14) ** 0.5
    optimiser: Optimizer = adam(coder, fused) if fused else SignSGD(coder.parameters(), lr=lr)
    nothing_dead = torch.zeros(d_sae, dtype=torch.bool, device=device)
    tokens_since_fired = torch.zeros(d_sae, dtype=torch.long, device=device)

    def step(x: Tensor) -> None:
        coder.set_decoder_norm_to_unit_norm()
        out = coder(x, dead_mask=nothing_dead)
        (out.fvu + out.auxk_loss / 32).backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimiser.step()
        optimiser.zero_grad()
        fired = torch.zeros_like(nothing_dead)
        fired[out.latent_indices.flatten()] = True
        tokens_since_fired.add_(len(x)).masked_fill_(fired, 0)

    return step


def sae_lens(d_in: int, d_sae: int, k: int, fused: bool, device: str) -> Step:
    """Return its trainer's step, with the sparse activations that it has by default."""
    from sae_lens import SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig

    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=d_in, d_sae=d_sae, k=k, device=device))
    size = {"total_training_samples": 2**40, "train_batch_size_samples": 1024}
    config = SAETrainerConfig(**size, dead_feature_window=ALIVE_FOR, lr_end=3e-5, device=device)
    trainer = SAETrainer(config, sae, data_provider=iter(()))
    if fused:
        trainer.optimizer = adam(sae, fused)
    return trainer.step


def dictionary_learning(d_in: int, d_sae: int, k: int, fused: bool, device: str) -> Step:
    """Return its trainer's update: clipping, parallel gradient, unit norm."""
    from dictionary_learning.trainers.top_k import TopKTrainer

    trainer = TopKTrainer(10**9, d_in, d_sae, k, layer=0, lm_name="", device=device)
    if fused:
        trainer.optimizer = adam(trainer.ae, fused)
    return lambda x: trainer.update(1, x)


def overcomplete(d_in: int, d_sae: int, k: int, fused: bool, device: str) -> Step:
    """Return its `train_sae` on one batch, with the squared error."""
    mpl.cm.get_cmap = mpl.colormaps.get_cmap  # it asks for a name that matplotlib has dropped
    from overcomplete.sae import TopKSAE, train_sae

    sae = TopKSAE(d_in, nb_concepts=d_sae, top_k=k, device=device)

    def loss(x: Tensor, x_hat: Tensor, *_: Any) -> Tensor:
        return (x - x_hat).square().mean()

    optimiser = adam(sae, fused)
    return lambda x: train_sae(sae, [x], loss, optimiser, nb_epochs=1, monitoring=0)


def dense_reference(d_in: int, d_sae: int, k: int, fused: bool, device: str, compiled: bool = False) -> Step:
    """Return the paper's autoencoder (Dreyer et al. 2025, arXiv 2505.20229), dense, by plain autograd."""
    encoder, decoder = (torch.nn.Linear(*shape, device=device) for shape in ((d_in, d_sae), (d_sae, d_in)))
    optimiser = adam(torch.nn.ModuleList([encoder, decoder]), fused)

    def loss(x: Tensor) -> Tensor:
        pre_acts = encoder(x - decoder.bias)
        values, indices = pre_acts.topk(k)
        latents = torch.zeros_like(pre_acts).scatter(1, indices, values.relu())
        return (decoder(latents) - x).square().mean()

    loss_of = torch.compile(loss) if compiled else loss

    def step(x: Tensor) -> None:
        optimiser.zero_grad()
        loss_of(x).backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            decoder.weight /= decoder.weight.norm(dim=0)

    return step


PEERS: dict[str, Callable[[int, int, int, bool, str], Step]] = {
    "eai-sparsify": eai_sparsify,
    "sae-lens": sae_lens,
    "dictionary-learning": dictionary_learning,
    "overcomplete": overcomplete,
    "dense reference": dense_reference,
}


def adam(module: torch.nn.Module, fused: bool) -> Adam:
    """Return PyTorch's default on a CPU is a loop over the parameters."""
    return Adam(module.parameters(), lr=1e-4, fused=fused or None)


def build_peers(
    d_in: int, d_sae: int, k: int, fused: bool, device: str = "cpu"
) -> tuple[dict[str, Step], dict[str, str]]:
    """Return the steps of the libraries that can be built, and why the others cannot."""
    steps, reasons = {}, {}
    for name, build in PEERS.items():
        try:
            steps[name] = build(d_in, d_sae, k, fused, device)
        except (ImportError, AttributeError) as error:  # absent, or broken by a newer dependency
            reasons[name] = f"{type(error).__name__}: {error}"
    return steps, reasons
