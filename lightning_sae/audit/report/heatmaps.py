"""Heatmaps of the places in an image where a latent drives a score, for tokens that are places."""

from collections.abc import Sequence
from typing import Self

import torch
from PIL import Image
from torch import Tensor

from lightning_sae.attribution.explained import Explained
from lightning_sae.attribution.gradient import token_sums
from lightning_sae.attribution.methods import ActGrad
from lightning_sae.classifiers.classifier import Classifier
from lightning_sae.classifiers.outputs import Output
from lightning_sae.clip import capture_context, make_tail
from lightning_sae.clip.sight import as_clip_sees, token_grid
from lightning_sae.report.overlay import overlay
from lightning_sae.runs.folder import RunFolder


class Heatmaps:
    """Draws the attribution of a latent to a class's score on the images themselves.

    Args:
        run: run whose hook point has a grid of tokens.
        classifier: the classifier under audit.
        output: the classifier's score.
        grid: rows and columns of the tokens.
    """

    def __init__(
        self, run: RunFolder, classifier: Classifier, output: Output | str, grid: tuple[int, int]
    ) -> None:
        self.run, self.names, self.grid = run, list(classifier.class_names), grid
        self.scores = classifier.scores(output)
        self.tail = make_tail(run.data.clip, run.data.hook)

    @classmethod
    def of(cls, run: RunFolder, classifier: Classifier, output: Output | str) -> Self | None:
        """Return the heatmaps of a run; `None` where its tokens are no places in an image."""
        if run.data.clip.reads_texts:
            return None
        grid = token_grid(run.data.clip, run.data.shape.tokens)
        return None if grid is None else cls(run, classifier, output, grid)

    def draw(self, ids: Sequence[int], latent: int, class_name: str, side: int) -> list[Image.Image]:
        """Return a square picture for each image.

        Places where the latent raises the score are orange, places where it lowers the score are purple. All
        pictures have one scale.
        """
        images = [self.run.data.images("val")[i] for i in ids]
        values = self.values(images, latent, self.names.index(class_name))
        values = values / values.abs().max().clamp_min(torch.finfo(values.dtype).tiny)
        seen = [as_clip_sees(self.run.data.clip, image) for image in images]
        return [overlay(picture, value, side) for picture, value in zip(seen, values, strict=True)]

    def values(self, images: Sequence[Image.Image], latent: int, c: int) -> Tensor:
        """Return `[n, rows, columns]` attribution of the latent at each place to the score of class `c`."""
        clip, sae = self.run.data.clip, self.run.sae.to(self.run.data.clip.device)
        pixels = torch.stack([clip.preprocess(image) for image in images]).to(clip.device)
        x, context = capture_context(clip, self.run.data.hook, self.tail, pixels)
        seen = Explained.of(self.tail, sae, x, context)
        score = self.scores.of(torch.full((len(x),), c, device=x.device))
        tokens = token_sums(seen.latents.with_values(ActGrad()(seen, score)), latent).view(len(x), -1)
        rows, columns = self.grid
        return tokens[:, -rows * columns :].reshape(len(x), rows, columns).cpu()
