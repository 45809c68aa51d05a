"""The layers of a graph: the hook points of finished runs of one CLIP, with the runs' knowledge of them."""

from collections.abc import Sequence
from typing import NamedTuple

from lightning_sae.clip import clip_titles, short_names
from lightning_sae.concepts.naming import LatentName
from lightning_sae.runs.folder import RunFolder
from lightning_sae.runs.layer_names import guessed_layer_names
from lightning_sae.runs.layers import RunLayer


class GraphLayer(NamedTuple):
    """A layer of a graph.

    Attributes:
        run: run that the hook point belongs to.
        layer: the hook point with its autoencoder and the table of its latents.
        title: short name of the hook point, with its token rule.
        names: names of the latents.
    """

    run: RunFolder
    layer: RunLayer
    title: str
    names: Sequence[LatentName]

    def top_images(self, latent: int) -> list[int]:
        """Return ids of the latent's top validation images, the largest activation first; none if silent."""
        table = self.layer.latents
        return [int(i) for i in str(table.loc[latent, "top_images"]).split()] if latent in table.index else []

    def name(self, latent: int) -> LatentName:
        """Return the name of a latent; a latent without a label is called by its number."""
        return self.names[latent].or_number(latent)


def graph_layers(runs: Sequence[RunFolder]) -> list[GraphLayer]:
    """Return the layers of some runs; a run with several hook points gives several layers, in order.

    Args:
        runs: opened runs in the order of their hook points, the earliest first.

    Raises:
        ValueError: fewer than two layers, latents of texts, or runs of different CLIPs.
    """
    _check_one_clip(runs)
    found = [(run, own, layer) for run in runs for own, layer in run.layers.items()]
    hook_points = [layer.hook_point for *_, layer in found]
    if texts := [str(hook_point) for hook_point in hook_points if hook_point.is_text]:
        raise ValueError(
            f"{texts[0]} has latents of texts, and no image reaches them: name runs whose hook points lie in "
            "`visual`"
        )
    if len(found) < 2:
        raise ValueError(
            f"a graph needs two layers or more, and {runs[0].folder} has one, {hook_points[0]}: name runs at "
            "earlier hook points of this CLIP before it, or one that was trained with hook_points=[A,B]"
        )
    modules = [hook_point.module for hook_point in hook_points]
    names = short_names(modules) if len({*modules}) == len(modules) else modules  # the latter is refused
    return [
        GraphLayer(run, layer, f"{name}:{layer.hook_point.tokens}", guessed_layer_names(run, own, layer))
        for (run, own, layer), name in zip(found, names, strict=True)
    ]


def _check_one_clip(runs: Sequence[RunFolder]) -> None:
    first = runs[0].data.clip
    for run in runs[1:]:
        if run.data.clip.identity()["weights"] != first.identity()["weights"]:
            one, other = clip_titles(first, run.data.clip)
            raise ValueError(
                f"a graph is of one CLIP, and {runs[0].folder} is of {one}, {run.folder} of {other}: name "
                "runs of the same"
            )
