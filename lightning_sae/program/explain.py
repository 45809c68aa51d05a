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
            metavar="PNG", parser=user_path, help="picture to write (RUN/pictures/explain_IMAGE.png)"
        ),
    ] = None,
    device: Device = "auto",
    trust: Trust = None,
) -> None:
    """Explain one image and a few prompts: which latents drive the score?

    Prints what they mean and what happens without them, and draws it. With `--set` also what setting or
    scaling latents does to the scores, of the classes of the data where there is no prompt.
    """
    from rich.console import Console

    from lightning_sae.explain.explanation import check_request
    from lightning_sae.explain.explanation import explain as explain_image
    from lightning_sae.explain.image_file import read_image
    from lightning_sae.explain.picture import draw_explanation
    from lightning_sae.explain.steered import steer_image
    from lightning_sae.explain.terminal import print_explanations, print_steered
    from lightning_sae.report.figures import save_figure
    from lightning_sae.steering.requests import read_edits

    prompts = prompt or []
    if prompts or not edits:
        check_request(prompts, top)
    read_image(image)  # is refused before the run is opened
    opened = open_named(run, moved, device, trust)
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
