"""`lightning-sae explain`."""

from pathlib import Path
from typing import Annotated

import typer

from lightning_sae.files import user_path
from lightning_sae.program.arguments import Device, Moved, Output, Run, Trust
from lightning_sae.program.opening import open_named


def explain(
    run: Run,
    image: Annotated[
        Path,
        typer.Option(metavar="FILE", parser=user_path, help="the picture, in any format that Pillow reads"),
    ],
    moved: Moved = None,
    prompt: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="a text; again for further ones")
    ] = None,
    top: Annotated[int, typer.Option(metavar="N", help="latents per prompt")] = 8,
    output: Output = "logit",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PNG", parser=user_path, help="picture to write (RUN/pictures/explain_IMAGE.png)"
        ),
    ] = None,
    device: Device = "auto",
    trust: Trust = None,
) -> None:
    """Explain one image and a few prompts: which latents drive the score?

    Prints what they mean and what happens without them, and draws it.
    """
    from rich.console import Console

    from lightning_sae.explain.explanation import check_request
    from lightning_sae.explain.explanation import explain as explain_image
    from lightning_sae.explain.image_file import read_image
    from lightning_sae.explain.picture import draw_explanation
    from lightning_sae.explain.terminal import print_explanations
    from lightning_sae.report.figures import save_figure

    prompts = prompt or []
    check_request(prompts, top)
    read_image(image)  # is refused before the run is opened
    opened = open_named(run, moved, device, trust)
    decoded = read_image(image, opened.data.background)
    explanations = explain_image(opened, decoded, prompts, output, top)
    path = out or opened.folder / "pictures" / f"explain_{image.stem}.png"
    save_figure(draw_explanation(opened, decoded, explanations, output), path, dpi=100)
    print_explanations(Console(), opened, explanations, output, path)
