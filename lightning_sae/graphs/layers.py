"""The layers of a graph: the hook points of finished runs of one CLIP, with what each run knows of them."""

from collections.abc import Sequence
from typing import NamedTuple

from lightning_sae.attribution.edges.layers import Layer
from lightning_sae.clip import short_names
from lightning_sae.concepts.naming import LatentName
from lightning_sae.runs.folder import RunFolder
from lightning_sae.runs.layers import RunLayer


class GraphLayer(NamedTuple):
    """A layer of a graph.

    Attributes:
        run: that the hook point belongs to.
        layer: the hook point with its autoencoder and the table of its latents.
        title: short name of the hook point, with its token rule.
    """

    run: RunFolder
    layer: RunLayer
    title: str

    @property
    def traced(self) -> Layer:
        """The hook point and the autoencoder."""
        return Layer(self.layer.hook, self.layer.sae)

    def top_images(self, latent: int) -> list[int]:
        """Return ids of the latent's top validation images, the largest activation first; none if silent."""
        table = self.layer.latents
        return [int(i) for i in str(table.loc[latent, "top_images"]).split()] if latent in table.index else []

    def name(self, latent: int) -> LatentName:
        """Return what the run calls a latent; of a layer without labels it is known by its number."""
        table = self.layer.latents
        known = table.loc[latent] if latent in table.index else {}
        return LatentName.of(known).or_number(latent)


def graph_layers(runs: Sequence[RunFolder]) -> list[GraphLayer]:
    """Return the layers of some runs, those of a run with several hook points one after the other.

    Args:
        runs: opened, in the order of their hook points, the earliest first.

    Raises:
        ValueError: fewer than two layers, or latents of texts.
    """
    found = [(run, layer) for run in runs for layer in run.layers.values()]
    if texts := [str(layer.hook) for _, layer in found if layer.hook.is_text]:
        raise ValueError(
            f"{texts[0]} has latents of texts, and no image reaches them: name runs whose hook points lie in "
            "`visual`"
        )
    if len(found) < 2:
        raise ValueError(
            f"a graph needs two layers or more, and {runs[0].folder} has one, {found[0][1].hook}: name runs at "
            "earlier hook points of this CLIP before it, or one that was trained with hook_points=[A,B]"
        )
    modules = [layer.hook.module for _, layer in found]
    names = short_names(modules) if len({*modules}) == len(modules) else modules  # the latter is refused
    return [
        GraphLayer(run, layer, f"{name}:{layer.hook.tokens}")
        for (run, layer), name in zip(found, names, strict=True)
    ]
