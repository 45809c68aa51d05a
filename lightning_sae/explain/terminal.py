"""The explanation of an image on the terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from lightning_sae.clip import clip_titles
from lightning_sae.concepts.naming import LatentName
from lightning_sae.explain.explanation import PromptExplanation
from lightning_sae.runs.folder import RunFolder
from lightning_sae.trust.control_characters import escape


def print_explanations(
    console: Console, run: RunFolder, explanations: Sequence[PromptExplanation], output: str, picture: Path
) -> None:
    """Print a table for each prompt, whose scores and labels these are, and where the picture lies."""
    for explanation in explanations:
        console.print(driver_table(explanation, output))
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
    console.print(f"picture: {escape(str(picture))}", soft_wrap=True, highlight=False)


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
