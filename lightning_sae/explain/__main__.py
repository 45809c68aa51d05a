"""One image, a few prompts: which latents drive the score, what they mean, and what happens without them.

`python -m lightning_sae.explain RUN --image FILE --prompt "a photo of a star"`
"""

import argparse
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from lightning_sae.classifiers.outputs import OUTPUTS
from lightning_sae.clip import clip_titles
from lightning_sae.concepts.naming import LatentName
from lightning_sae.errors import one_line_errors
from lightning_sae.explain.explanation import PromptExplanation, check_request, explain
from lightning_sae.explain.image_file import read_image
from lightning_sae.explain.picture import draw_explanation
from lightning_sae.files import user_path
from lightning_sae.report.figures import save_figure
from lightning_sae.runs.command import command_on_a_run, open_named
from lightning_sae.trust.control_characters import escape


def driver_table(explanation: PromptExplanation, output: str) -> Table:
    """Return the explanation for the terminal; what is unexpected stands in red."""
    title = f"{escape(explanation.prompt)}: {output} {explanation.score:.3g}"
    caption = f"all active latents: {explanation.positive:+.3g} and {explanation.negative:+.3g}"
    narrow = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0), "show_edge": False}  # 80 columns are enough
    table = Table("latent", title=title, caption=caption, **narrow)  # type: ignore[arg-type]
    table.add_column("name", overflow="fold")
    for name in ("alignment", "to\nprompt", "activation", "attribution", "effect"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in explanation.drivers.to_dict("records"):
        numbers = [f"{row[key]:.2f}" for key in ("alignment", "prompt_alignment", "activation")]
        numbers += [f"{row[key]:+.3g}" for key in ("attribution", "effect")]
        style = "red" if row["unexpected"] else None
        table.add_row(str(row["latent"]), LatentName.of(row).markup(), *numbers, style=style)
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table per prompt and write the picture; what the user can mend ends in one message."""
    parser = command_on_a_run("explain", __doc__)
    parser.add_argument(
        "--image", type=user_path, required=True, help="the picture, in any format that Pillow reads"
    )
    parser.add_argument("--prompt", action="append", default=[], help="a text; again for further ones")
    parser.add_argument("--top", type=int, default=8, help="latents per prompt (8)")
    parser.add_argument("--output", choices=OUTPUTS, default="logit", help="the score (logit)")
    parser.add_argument("--out", type=user_path, help="PNG to write (RUN/pictures/explain_IMAGE.png)")
    options = parser.parse_intermixed_args(arguments)
    with one_line_errors():
        _run(options)


def _run(options: argparse.Namespace) -> None:
    check_request(options.prompt, options.top)
    read_image(options.image)  # is refused before the run is opened
    run = open_named(options)
    image = read_image(options.image, run.data.background)
    explanations = explain(run, image, options.prompt, options.output, options.top)
    console = Console()
    for explanation in explanations:
        console.print(driver_table(explanation, options.output))
    if any(explanation.drivers["unexpected"].any() for explanation in explanations):
        console.print(
            "[red]red[/red]: raises the score, and means the prompt no better than random images do"
        )
    clip, judge = (escape(title) for title in clip_titles(run.data.clip, run.data.judge))
    if run.data.judge_independent:
        console.print(f"scores: {clip}; labels: {judge}", highlight=False)
    else:
        console.print(
            f"{clip} judges its own latents here: what it confuses, the labels confuse too", highlight=False
        )
    path = options.out or run.folder / "pictures" / f"explain_{options.image.stem}.png"
    save_figure(draw_explanation(run, image, explanations, options.output), path, dpi=100)
    console.print(f"picture: {escape(str(path))}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()
