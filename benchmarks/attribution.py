"""What attribution to many prompts costs, against the paper's way: `python benchmarks/attribution.py`.

The paper's way is one gradient per prompt through the dense latents, times the activations. All ways
attribute 32 images at the last block's class token (d_in 768, d_sae 8192, k 64). Runs are interleaved,
on one thread, because only ratios within one run count; agreement is the largest difference relative to
the largest attribution. Then the means over 1,024 images, of every class over all of them.
"""

import argparse
import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from interleaved import interleave
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import normalize

from lightning_sae.attribution.closed_form import LastLayer
from lightning_sae.attribution.explained import Explained
from lightning_sae.attribution.per_class import attribute_classes, mean_over_images
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.clip import Clip, HookPoint, load_clip, make_tail
from lightning_sae.types import SparseLatents

D_IN, D_EMBED, K = 768, 512, 64


def random_clip() -> Clip:
    """Return what stands behind the last block of a ViT-B-32, with weights that do something."""
    config = {
        "embed_dim": D_EMBED,
        "vision_cfg": {"layers": 1, "width": D_IN, "patch_size": 32, "image_size": 32},
        "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*random weights")
        (Path(folder) / "head.json").write_text(json.dumps(config))
        clip = load_clip(Path(folder) / "head.json")
    with torch.no_grad():
        clip.visual.ln_post.weight.uniform_(0.5, 1.5)
        clip.visual.ln_post.bias.normal_(0, 0.1)
    return clip


def random_images(clip: Clip, n: int, d_sae: int) -> Explained:
    """Return the random activations with the `k` latents that fit them best."""
    x, W_dec = torch.randn(n, D_IN), normalize(torch.randn(d_sae, D_IN), dim=1)
    latents = SparseLatents.from_topk(*(x @ W_dec.T).relu().topk(K), d_sae)
    x_hat = torch.nn.functional.embedding_bag(
        latents.indices, W_dec, latents.offsets[:-1], mode="sum", per_sample_weights=latents.values
    )
    tail = make_tail(clip, HookPoint("visual.transformer.resblocks.0", "cls"))
    return Explained(tail, W_dec, x[:, None], x_hat[:, None], latents)


def papers_way(explained: Explained, scores: ClassScores) -> Tensor:
    """Return `[nnz, C]` from one dense gradient per prompt, of one graph."""
    a = explained.latents.to_dense().requires_grad_()
    error = explained.x - explained.x_hat
    y = scores(explained.tail((a @ explained.W_dec)[:, None] + error, None))
    kept = explained.latents.rows(), explained.latents.indices
    values = torch.empty(len(kept[0]), y.shape[1])
    for c in range(y.shape[1]):
        (gradient,) = torch.autograd.grad(y[:, c].sum(), a, retain_graph=True)
        values[:, c] = (a.detach() * gradient)[kept]
    return values


def means_by_algebra(explained: Explained, scores: ClassScores) -> Tensor:
    """Return `[C, d_sae]`, everything included."""
    metric = mean_over_images(explained.tail, explained.W_dec, scores)
    metric.update(explained)
    means: Tensor = metric.compute()
    return means


def means_of_each(explained: Explained, scores: ClassScores) -> Tensor:
    """Return the same from the attributions of every image, 32 images at a time."""
    last = LastLayer.of(explained.tail, explained.W_dec)
    sums = torch.zeros(explained.latents.d_sae, len(scores.weight))
    assert last is not None
    for start in range(0, len(explained.x), 32):
        part = explained.images(start, min(start + 32, len(explained.x)))
        sums.index_add_(0, part.latents.indices, last.attribute(part, scores))
    return sums.T / len(explained.x)


def table_of(title: str, ways: dict[str, Callable[[], Tensor]], repeats: int) -> Table:
    """Return the times, and how they compare with those of the first way."""
    results = [way() for way in ways.values()]
    seconds = list(interleave(ways, repeats).values())
    table = Table("", "ms", "faster", "agreement", title=title)
    for name, took, result in zip(ways, seconds, results, strict=True):
        apart = (result - results[0]).abs().max() / results[0].abs().max()
        table.add_row(name, f"{1e3 * took:.1f}", f"{seconds[0] / took:.1f} x", f"{apart:.0e}")
    return table


def each_image(explained: Explained, scores: ClassScores, repeats: int) -> Table:
    """Return every image's attribution to every prompt."""
    last = LastLayer.of(explained.tail, explained.W_dec)  # once for all images, not timed
    assert last is not None
    ways: dict[str, Callable[[], Tensor]] = {
        "the paper's way": lambda: papers_way(explained, scores),
        "last layer, closed form": lambda: last.attribute(explained, scores),
        "any tail, forward": lambda: attribute_classes(explained, scores, "forward"),
        "any tail, reverse": lambda: attribute_classes(explained, scores, "reverse"),
    }
    title = f"{scores.output}, {len(scores.weight)} prompts, {len(explained.x)} images"
    return table_of(title, ways, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="small, for a check that it runs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    d_sae, counts, many, repeats = (512, (10, 100), 64, 1) if options.short else (8192, (10, 1000), 1024, 5)
    console, clip = Console(width=110), random_clip()
    few, all_images = (random_images(clip, n, d_sae) for n in (32, many))
    for count in counts:
        texts = normalize(torch.randn(count, D_EMBED), dim=1)
        console.print(each_image(few, ClassScores(texts), repeats))
        for output in ("cosine", "margin"):
            scores = ClassScores(texts, output, 100.0)
            ways = {
                "image by image": lambda s=scores: means_of_each(all_images, s),
                "from sums": lambda s=scores: means_by_algebra(all_images, s),
            }
            title = f"mean over {many} images: {output}, {count} prompts"
            console.print(table_of(title, ways, 1 if options.short else 3))


if __name__ == "__main__":
    main()
