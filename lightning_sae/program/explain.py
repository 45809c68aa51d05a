"""`lightning-sae explain`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lightning_sae.files import user_path
from lightning_sae.program.arguments import Device, Output, Trust
from lightning_sae.program.opening import open_named

if TYPE_CHECKING:
    from lightning_sae.graphs.traced import GraphSettings


def explain(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN [KEY=VALUE]...",
            help="folder of a finished run, for --graph of several, the earliest hook point first; then what "
            "has moved since: data.store_dir=DIR data.root=DIR",
        ),
    ],
    image: Annotated[
        Path,
        typer.Option(metavar="FILE", parser=user_path, help="the picture, in any format that Pillow reads"),
    ],
    prompt: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="a text; again for further ones")
    ] = None,
    edits: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="LATENT=VALUE",
            help="a latent, by its number or label, set to a value, or scaled as by 'LATENT*2': what moves? "
            "Again for further ones",
        ),
    ] = None,
    top: Annotated[int, typer.Option(metavar="N", help="latents per prompt")] = 8,
    output: Output = "logit",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=user_path,
            help="picture, or page, to write (RUN/pictures/explain_IMAGE.png, .html)",
        ),
    ] = None,
    graph: Annotated[
        bool, typer.Option("--graph", help="trace the scores back through several layers: a page")
    ] = False,
    share: Annotated[
        float, typer.Option(metavar="SHARE", help="of the influence that the graph keeps, in (0, 1]")
    ] = 0.8,
    rule: Annotated[
        Literal["frozen", "gradient"],
        typer.Option(
            metavar="RULE", help="how the model between the layers is made linear: frozen, gradient"
        ),
    ] = "frozen",
    trace: Annotated[
        float,
        typer.Option(metavar="SHARE", help="of a layer's influence whose latents are traced further"),
    ] = 1.0,
    most_edges: Annotated[int, typer.Option(metavar="N", help="edges that are drawn at most")] = 2000,
    device: Device = "auto",
    trust: Trust = None,
) -> None:
    """Explain one image and a few prompts: which latents drive the score?

    Prints what they mean and what happens without them, and draws it. With `--set` also what setting or
    scaling latents does to the scores, of the classes of the data where there is no prompt. With `--graph`:
    through which latents of several layers does the score come about?
    """
    from lightning_sae.explain.explanation import check_request
    from lightning_sae.explain.image_file import read_image
    from lightning_sae.graphs.traced import GraphSettings

    prompts = prompt or []
    if graph and edits:
        raise ValueError("a graph is of the scores as they are: leave out --graph or --set")
    if prompts or not edits:
        check_request(prompts, top)
    settings = GraphSettings(share, rule, trace, most_edges)
    runs, moved = _sorted_words(words)
    if len(runs) > 1 and not graph:
        raise ValueError(f"one run is explained at a time, got {', '.join(runs)}: add --graph for several")
    read_image(image)  # is refused before a run is opened
    folders = [user_path(run) for run in runs]
    if graph:
        _draw_graphs(folders, moved, (device, trust), image, prompts, output, settings, out)
    else:
        _explain(folders[0], moved, (device, trust), image, prompts, edits or [], output, top, out)


def _sorted_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the folders of runs, and the moved paths; a word with = is a folder only where that exists."""
    runs = [word for i, word in enumerate(words) if i == 0 or "=" not in word or user_path(word).is_dir()]
    return runs, [word for word in words if word not in runs]


def _explain(
    run: Path,
    moved: Sequence[str],
    how: tuple[str, list[str] | None],
    image: Path,
    prompts: Sequence[str],
    edits: Sequence[str],
    output: str,
    top: int,
    out: Path | None,
) -> None:
    from rich.console import Console

    from lightning_sae.explain.explanation import explain as explain_image
    from lightning_sae.explain.image_file import read_image
    from lightning_sae.explain.picture import draw_explanation
    from lightning_sae.explain.steered import steer_image
    from lightning_sae.explain.terminal import print_explanations, print_steered
    from lightning_sae.report.figures import save_figure
    from lightning_sae.steering.requests import read_edits

    opened = open_named(run, moved, *how)
    decoded = read_image(image, opened.data.background)
    if edits:
        asked = read_edits(edits, opened.latents, opened.sae.d_sae)
        most = len(prompts) or top
        print_steered(Console(), steer_image(opened, decoded, asked, prompts, output), output, most)
        if not prompts:
            return
    explanations = explain_image(opened, decoded, prompts, output, top)
    path = out or opened.folder / "pictures" / f"explain_{image.stem}.png"
    save_figure(draw_explanation(opened, decoded, explanations, output), path, dpi=100)
    print_explanations(Console(), opened, explanations, output, path)


def _draw_graphs(
    folders: Sequence[Path],
    moved: Sequence[str],
    how: tuple[str, list[str] | None],
    image: Path,
    prompts: Sequence[str],
    output: str,
    settings: "GraphSettings",
    out: Path | None,
) -> None:
    from rich.console import Console

    from lightning_sae.explain.graph_page import write_graphs
    from lightning_sae.explain.graph_terminal import print_graphs
    from lightning_sae.explain.image_file import read_image
    from lightning_sae.explain.image_graph import image_graphs

    runs = [open_named(folder, moved, *how) for folder in folders]
    decoded = read_image(image, runs[0].data.background)
    found = image_graphs(runs, decoded, prompts, output, settings)
    path = out or runs[-1].folder / "pictures" / f"explain_{image.stem}.html"
    write_graphs(found, decoded, image.name, output, path)
    print_graphs(Console(), found, output, path)
