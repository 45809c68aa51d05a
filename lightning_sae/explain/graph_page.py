"""The graphs of an image as one page that needs nothing beside it, and as data."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from markupsafe import Markup
from PIL import Image

from lightning_sae import __version__
from lightning_sae.browser import collect_examples
from lightning_sae.browser.sheets import ROW
from lightning_sae.clip.sight import as_clip_sees, token_grid
from lightning_sae.explain.image_graph import ImageGraphs
from lightning_sae.files import write_atomic
from lightning_sae.graphs.drawn import drawn_graph
from lightning_sae.graphs.layers import GraphLayer
from lightning_sae.graphs.traced import percent_of
from lightning_sae.report import compact, render, webp_uri
from lightning_sae.report.overlay import overlay
from lightning_sae.report.packing import packed
from lightning_sae.report.policy import policy
from lightning_sae.report.style import script_of, style_of
from lightning_sae.report.thumbnails import thumbnail

SIDE, BIG = 96, 200  # pixels: an example or a heatmap, the image itself
EXAMPLES = 4  # top images of a latent
SCHEMA_VERSION = 1  # of the JSON

Key = tuple[str, int, int]
"""The key of a small picture: (`top`, layer, image id) or (`map`, layer, latent)."""


def write_graphs(found: ImageGraphs, image: Image.Image, title: str, output: str, path: Path) -> Path:
    """Write the page, and the same graphs as JSON beside it; each file appears whole or not at all.

    Args:
        found: the graphs.
        image: the image that the graphs explain.
        title: title of the page, such as the name of the image's file.
        output: name of the score.
        path: path of the page; the JSON has the same path with the ending `.json`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path.with_suffix(".json"), json.dumps(graph_record(found, output), indent=1).encode())
    write_atomic(
        path, render(__package__, _context(found, image, title, output), "graph.html.jinja").encode()
    )
    return path


def graph_record(found: ImageGraphs, output: str) -> dict[str, Any]:
    """Return the graphs as plain data: `layers`, and for each prompt its `nodes` and `edges`."""
    graphs = [
        {
            "prompt": each.prompt,
            "score": each.score,
            "replacement": each.traced.graph.replacement,
            "completeness": each.traced.graph.completeness,
            "share": each.traced.share,
            "nodes": json.loads(each.nodes.rename_axis("node").reset_index().to_json(orient="records")),
            "edges": json.loads(each.traced.graph.edges.to_json(orient="records")),
        }
        for each in found.graphs
    ]
    layers = [
        {"hook_point": str(each.layer.hook_point), "run": str(each.run.folder)} for each in found.layers
    ]
    made = {"schema_version": SCHEMA_VERSION, "library_version": __version__, "output": output}
    return {**made, "layers": layers, "graphs": graphs}


def _context(found: ImageGraphs, image: Image.Image, title: str, output: str) -> dict[str, Any]:
    pictures = _Pictures(found, image)
    sheets = collect_examples(pictures, range(len(pictures.keys)), SIDE, texts=False)
    drawn = [drawn_graph(each.traced, each.nodes, found.layers, pictures.places) for each in found.graphs]
    style = style_of("lightning_sae.graphs")
    script = (
        script_of("lightning_sae.browser", ("content", "elements", "drawing"))
        + script_of("lightning_sae.graphs", ("graph",))
        + script_of(__package__, ("graphs",))
    )
    return {
        "policy": policy(style, script),
        "style": Markup(style),
        "script": Markup(script),
        "title": title,
        "picture": webp_uri(thumbnail(pictures.seen, BIG)),
        "output": output,
        "layers": [(layer.title, layer.run.folder.resolve().name) for layer in found.layers],
        "prompts": [
            {
                "prompt": each.prompt,
                "score": compact(each.score),
                "share": percent_of(each.traced.share),
                "nodes": len(each.nodes),
                "edges": len(each.traced.graph.edges),
                "trust": graph["trust"],
            }
            for each, graph in zip(found.graphs, drawn, strict=True)
        ],
        "graphs": packed({"graphs": drawn, "side": SIDE, "row": ROW}),
        "sheets": sheets.sheets,
        "version": __version__,
    }


class _Pictures:
    """All small pictures of a page by their keys: top images of latents, and where they fire in the image."""

    def __init__(self, found: ImageGraphs, image: Image.Image) -> None:
        self.found = found
        clip = found.layers[0].run.data.clip
        self.seen = as_clip_sees(clip, image)
        self.grids = [token_grid(clip, each.explained.x.shape[1]) for each in found.seen]
        self.keys = [*dict.fromkeys(self._wanted())]
        self._at = {key: place for place, key in enumerate(self.keys)}

    def _wanted(self) -> Iterator[Key]:
        for each in self.found.graphs:
            latents = each.nodes[each.nodes["kind"] == "latent"]
            for place, j in zip(latents["layer"], latents["latent"], strict=True):
                yield from self._tops(place, j)
                if self.grids[place] is not None:
                    yield ("map", place, int(j))

    def _tops(self, place: int, latent: int) -> Sequence[Key]:
        return [("top", place, i) for i in self.layer(place).top_images(latent)[:EXAMPLES]]

    def layer(self, place: int) -> GraphLayer:
        return self.found.layers[place]

    def places(self, place: int, latent: int) -> dict[str, Any]:
        """Return the places of a latent's pictures on the sheets."""
        found: dict[str, Any] = {"tops": [self._at[key] for key in self._tops(place, latent)]}
        key = ("map", place, latent)
        return {**found, "map": self._at[key]} if key in self._at else found

    def __getitem__(self, picture: int) -> Image.Image:
        kind, place, number = self.keys[picture]
        if kind == "top":
            return self.layer(place).run.data.images("val")[number]
        return self._fires(place, number)

    def _fires(self, place: int, latent: int) -> Image.Image:
        """Return the image in grey, coloured where a latent fires, as shares of its largest activation."""
        rows, columns = self.grids[place] or (1, 1)
        own = self.found.seen[place].explained.latents.columns(torch.tensor([latent])).to_dense()[:, 0]
        shares = own[-rows * columns :].float().cpu() / own.max().cpu().clamp_min(1e-12)
        return overlay(self.seen, shares.view(rows, columns), SIDE)
