"""An explained image for people: prompts, the latents that drive their scores, and places in the image."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image
from torch import Tensor

from lightning_sae.classifiers.outputs import Output
from lightning_sae.clip.sight import as_clip_sees, token_grid
from lightning_sae.concepts.naming import LatentName
from lightning_sae.data.images.decoding import upright_rgb
from lightning_sae.explain.explanation import PromptExplanation, explain
from lightning_sae.explain.image_file import read_image
from lightning_sae.explain.picture import places
from lightning_sae.report import compact, render_cell, webp_uri
from lightning_sae.report.overlay import colour_scale, overlay
from lightning_sae.report.thumbnails import thumbnail
from lightning_sae.runs.folder import RunFolder

BIG, SMALL = 200, 56  # pixels: the image itself, a heatmap or an example beside a latent

EXAMPLES = 4  # top images of a latent


class ImageExplanation(Sequence[PromptExplanation]):
    """The explanations of an image, one per prompt; a notebook displays them.

    Args:
        run: run whose latents drive the scores.
        image: the image, in RGB.
        output: name of the score.
        prompts: the explanations.
    """

    def __init__(
        self, run: RunFolder, image: Image.Image, output: str, prompts: Sequence[PromptExplanation]
    ) -> None:
        self.run, self.image, self.output, self.prompts = run, image, output, tuple(prompts)

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, index: Any) -> Any:
        return self.prompts[index]

    def __repr__(self) -> str:
        scores = ", ".join(f"{each.prompt!r}: {self.output} {each.score:.3g}" for each in self)
        return f"{type(self).__name__}({scores})"

    def to_frame(self) -> pd.DataFrame:
        """Return the drivers of all prompts in one table, with the column `prompt` first."""
        return pd.concat([each.drivers.assign(prompt=each.prompt) for each in self], ignore_index=True)[
            ["prompt", *self.prompts[0].drivers.columns]
        ]

    def _repr_html_(self) -> str:
        clip = self.run.data.clip
        picture = as_clip_sees(clip, self.image)
        grid = token_grid(clip, self.prompts[0].tokens.shape[1])
        context = {
            "picture": webp_uri(thumbnail(picture, BIG)),
            "scale": webp_uri(colour_scale(BIG, 10)),
            "output": self.output,
            "prompts": [self._prompt(each, picture, grid) for each in self],
            "sides": (BIG, SMALL),
        }
        return render_cell("lightning_sae.explain", "explanation.html.jinja", context)

    def _prompt(
        self, explained: PromptExplanation, picture: Image.Image, grid: tuple[int, int] | None
    ) -> dict[str, Any]:
        maps = list(_maps(explained.tokens, picture, grid))
        longest = float(explained.drivers["attribution"].abs().max()) or 1.0
        rows = explained.drivers.to_dict("records")
        return {
            "prompt": explained.prompt,
            "score": compact(explained.score),
            "masses": (f"+{compact(explained.positive)}", compact(explained.negative) or "0"),
            "whole": maps[0] if maps else "",
            "ends": [compact(_largest(part)) for part in (explained.tokens[:1], explained.tokens[1:])],
            "rows": [self._driver(row, longest, maps[i + 1] if maps else "") for i, row in enumerate(rows)],
        }

    def _driver(self, row: Mapping[Hashable, Any], longest: float, heatmap: str) -> dict[str, Any]:
        images = self.run.data.images("val")
        shown = self.run.top_images(row["latent"])[:EXAMPLES]
        length = round(50 * row["attribution"] / longest, 1)
        return {
            "latent": row["latent"],
            "name": LatentName.of(row),
            "unexpected": row["unexpected"],
            "attribution": compact(row["attribution"]),
            "effect": compact(row["effect"]),
            "alignment": compact(row["alignment"], 2),
            "prompt_alignment": compact(row["prompt_alignment"], 2),
            "bar": {"start": 50 + min(0, length), "length": abs(length), "raises": length > 0},
            "heatmap": heatmap,
            "tops": [webp_uri(thumbnail(images[i], SMALL)) for i in shown],
        }


def _largest(tokens: Tensor) -> float:
    return float(tokens.abs().max()) if tokens.numel() else 0.0


def _maps(tokens: Tensor, picture: Image.Image, grid: tuple[int, int] | None) -> Iterator[str]:
    """Yield the heatmap of all latents, then one for each driver; nothing where tokens are no places."""
    if grid is not None:
        yield webp_uri(overlay(picture, places(tokens[:1], grid)[0], BIG))
        if len(tokens) > 1:
            yield from (webp_uri(overlay(picture, each, SMALL)) for each in places(tokens[1:], grid))


def explain_image(
    run: RunFolder,
    image: Image.Image | str | Path,
    prompts: str | Sequence[str],
    output: Output | str = "logit",
    top: int = 8,
) -> ImageExplanation:
    """Return which latents drive the score of an image and some prompts.

    Args:
        run: a run of `open_run`.
        image: an image of Pillow, or the path of a file.
        prompts: a text or several texts, as they are: no template is put around them.
        output: the score; `margin` and `probability` compare the prompts with each other.
        top: number of latents per prompt.

    Raises:
        ValueError: as `explain`.
        FileNotFoundError: there is no such file, or the store of the run has moved.
        BadImageError: the file is no image.
    """
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    if isinstance(image, Image.Image):
        picture = upright_rgb(image, background=run.data.background)
    else:
        picture = read_image(image, run.data.background)
    return ImageExplanation(run, picture, str(output), explain(run, picture, prompts, output, top))
