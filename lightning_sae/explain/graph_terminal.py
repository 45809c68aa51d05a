"""The graphs of an image on the terminal: how far to trust them, and their strongest paths."""

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from lightning_sae.attribution.edges.graph import paths
from lightning_sae.concepts.naming import LatentName
from lightning_sae.explain.image_graph import ImageGraphs, PromptGraph
from lightning_sae.graphs.traced import percent_of
from lightning_sae.graphs.trust import said_trust
from lightning_sae.trust.control_characters import escape

PATHS = 5  # of a prompt


def print_graphs(console: Console, found: ImageGraphs, output: str, page: Path) -> None:
    """Print for each prompt how much its graph explains and its strongest paths, then where the page lies."""
    for each in found.graphs:
        console.print(path_table(each, output))
        for sentence in said_trust(each.traced, found.layers):
            console.print(escape(sentence), highlight=False)
        console.print()
    console.print(f"page: {escape(str(page))}", soft_wrap=True, highlight=False)
    console.print(f"data: {escape(str(page.with_suffix('.json')))}", soft_wrap=True, highlight=False)


def path_table(graph: PromptGraph, output: str) -> Table:
    """Return the strongest paths from the earliest layer to the score; unexpected latents stand in red."""
    drawn = graph.traced.graph
    title = f"{escape(graph.prompt)}: {output} {graph.score:.3g}"
    share = percent_of(graph.traced.share)
    caption = f"{len(drawn.nodes)} nodes, {len(drawn.edges)} edges, {share} of the influence"
    table = Table(box=box.SIMPLE_HEAD, title=title, caption=caption, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("strongest paths to the score", overflow="fold")
    for name in ("weight", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    for walked, weight, influence in paths(drawn, top=PATHS).itertuples(index=False):
        steps = [_step(graph, node) for node in walked[:-1]]
        table.add_row(" → ".join(steps), f"{weight:+.3g}", f"{influence:.1%}")
    return table


def _step(graph: PromptGraph, node: int) -> str:
    row = graph.nodes.loc[[node]].iloc[0]
    name = LatentName.of(row).markup()
    return f"[red]{name}[/red]" if row["unexpected"] else name
