"""The explanation of an image on the terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from lightning_sae.clip import clip_titles
from lightning_sae.concepts.naming import LatentName
from lightning_sae.explain.explanation import PromptExplanation
from lightning_sae.explain.steered import SteeredImage
from lightning_sae.runs.folder import RunFolder
from lightning_sae.trust.control_characters import escape


def print_explanations(
    console: Console, run: RunFolder, explanations: Sequence[PromptExplanation], output: str, picture: Path
) -> None:
    """Print a table for each prompt, the source of scores and labels, and where the picture lies."""
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


def print_steered(console: Console, steered: SteeredImage, output: str, most: int) -> None:
    """Print which latents were edited, the scores before and after, and how far the image moved."""
    console.print(edit_table(steered))
    console.print(score_table(steered, output, most))
    silent = steered.latents.query("before == 0 and after == 0")["latent"]
    if len(silent):
        numbers = ", ".join(map(str, silent))
        console.print(f"silent on this image, so that nothing was changed: latent {numbers}")
    by_prompt = steered.scores.set_index("prompt")
    first, then = (by_prompt[side].idxmax() for side in ("before", "after"))
    if len(steered.scores) > 1:
        console.print(f"largest score: {escape(str(first))} → {escape(str(then))}", highlight=False)
    console.print(f"cosine of the image with itself, before and after: {steered.cosine:.4f}", highlight=False)


def edit_table(steered: SteeredImage) -> Table:
    """Return the edited latents with their activations, the largest over the tokens."""
    table = Table("latent", title="set or scaled", box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("name", overflow="fold")
    for name in ("activation", "after"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in steered.latents.to_dict("records"):
        numbers = (f"{row['before']:.2f}", f"{row['after']:.2f}")
        table.add_row(str(row["latent"]), LatentName.of(row).markup(), *numbers)
    return table


def score_table(steered: SteeredImage, output: str, most: int) -> Table:
    """Return the first rows of scores before and after; the largest score of all rows is in bold."""
    table = Table("prompt", title=f"{output}, before and after", box=box.SIMPLE_HEAD, show_edge=False)
    for name in ("before", "after", "change"):
        table.add_column(name, justify="right", no_wrap=True)
    largest = {name: steered.scores[name].max() for name in ("before", "after")}
    for row in steered.scores[:most].to_dict("records"):
        sides = [f"{row[name]:.3g}" for name in largest]
        bold = [
            f"[bold]{text}[/bold]" if row[name] == largest[name] else text
            for name, text in zip(largest, sides, strict=True)
        ]
        table.add_row(escape(str(row["prompt"])), *bold, f"{row['change']:+.3g}")
    left_out = len(steered.scores) - most
    if left_out > 0:
        table.caption = f"{left_out} more move less"
    return table


def driver_table(explanation: PromptExplanation, output: str) -> Table:
    """Return the explanation as a table for the terminal; unexpected latents stand in red."""
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
