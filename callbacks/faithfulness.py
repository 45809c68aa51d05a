"""Whether attribution tells what drives the score, measured on the probe during training."""

from collections.abc import Mapping
from copy import copy
from typing import Self

import torch
from torch import Tensor

from callbacks.base import Pass, PassCallback
from lightning_sae.attribution.explained import explain_probe
from lightning_sae.attribution.faithfulness import Evidence, Method, faithfulness_table, measure
from lightning_sae.attribution.means import ClassAttribution
from lightning_sae.classifiers.outputs import Output, as_output
from lightning_sae.classifiers.scores import make_score
from lightning_sae.data import choose_probe
from lightning_sae.metrics import mean_in_units
from lightning_sae.metrics.accuracy import predict
from lightning_sae.report.faithfulness_picture import draw_curves
from lightning_sae.report.figures import save_figure
from lightning_sae.tracking.publish import publish_picture, publish_table, run_dir

CHUNK = 32  # probe images at a time


class Faithfulness(PassCallback):
    """Deletion, insertion and rank correlation of attribution methods, for the score of the predicted class.

    Logged, for each method:
        faithfulness/METHOD_deletion: area under the deletion curve, 1 being the image as it is
            and 0 the one without its active latents; lower is better.
        faithfulness/METHOD_insertion: the same of the insertion curve, higher is better.
        faithfulness/METHOD_rank_correlation: Spearman's with the truth, mean over images, in [-1, 1]; not for
            the truth itself.

    Writes `faithfulness.csv`, the same with bootstrap intervals over the images and paired differences, and
    `pictures/faithfulness.png`, the mean curves.

    Args:
        methods: name -> method, called as `lightning_sae.attribution.methods` are.
        every: measure after every so many validation passes, and at the last step of a fit.
        n_images: probe images, class-balanced, fixed by the data's `probe_seed`.
        steps: of a curve.
        output: the score, a name or one of your own; `None`: that of the attribution callback, the margin if
            there is none.
        reference: name of the method that the others are compared with, image by image.
        truth: name of the method that the rank correlations are with.
        confidence: of the intervals.
        batch_size: edited images in one call of the tail.
    """

    uses = (ClassAttribution,)
    logs = ("faithfulness/*_deletion", "faithfulness/*_insertion", "faithfulness/*_rank_correlation")

    def __init__(
        self,
        methods: Mapping[str, Method],
        every: int = 4,
        n_images: int = 128,
        steps: int = 16,
        output: Output | str | None = None,
        reference: str = "act_grad",
        truth: str = "ablation",
        confidence: float = 0.95,
        batch_size: int = 256,
    ) -> None:
        if min(every, n_images, steps, batch_size) < 1:
            raise ValueError(
                "every, n_images, steps and batch_size must be at least 1, got "
                f"{every}, {n_images}, {steps}, {batch_size}"
            )
        for role, name in {"reference": reference, "truth": truth}.items():
            if name not in methods:
                raise ValueError(f"{role} must be one of the methods {', '.join(methods)}; got {name!r}")
        self.methods = dict(methods)
        self.every, self.n_images, self.steps = every, n_images, steps
        self.output = None if output is None else as_output(output)
        self.reference, self.truth, self.confidence = reference, truth, confidence
        self.batch_size = batch_size
        self.evidence: Evidence | None = None

    def baseline(self) -> Self:
        """Return a copy."""
        return copy(self)

    def finish(self, pass_: Pass) -> None:
        """Measure and log."""
        self.evidence = self._measure(pass_)
        self._log(pass_, self.evidence)

    def _measure(self, pass_: Pass) -> Evidence:
        """Return what all ranks have measured, each on its share of the images.

        The chunks of images are the same for any number of ranks.
        """
        data, trainer = pass_.data, pass_.trainer
        chosen = choose_probe(data.probe.targets.cpu(), self.n_images, data.probe_seed)
        n, m, s = len(chosen), len(self.methods), self.steps + 1
        sizes = (n, s), (n, m, s), (n, m, s), (n, m)
        found = Evidence(*(torch.zeros(size, dtype=torch.float64) for size in sizes))
        for rows in torch.split(torch.arange(n), CHUNK)[trainer.global_rank :: trainer.world_size]:
            part = self._measure_images(pass_, chosen[rows])
            for whole, piece in zip(found, part, strict=True):
                whole[rows] = piece
        everyone = (trainer.strategy.reduce(part.to(pass_.module.device), reduce_op="sum") for part in found)
        return Evidence(*(part.cpu() for part in everyone))

    def _measure_images(self, pass_: Pass, rows: Tensor) -> Evidence:
        data, attributed = pass_.data, pass_.get(ClassAttribution)
        explained = explain_probe(data, pass_.sae, rows)
        embeddings = data.tail(explained.x, explained.context)
        score = make_score(
            data.class_embeddings,
            output=self.output or (attributed.output if attributed else "margin"),
            targets=predict(embeddings, data.class_embeddings),
            logit_scale=data.clip.logit_scale,
        )
        return measure(explained, score, self.methods, self.truth, self.steps, self.batch_size)

    def _log(self, pass_: Pass, evidence: Evidence) -> None:
        deletion, insertion = (mean_in_units(areas, evidence.span).float() for areas in evidence.areas())
        for k, name in enumerate(self.methods):
            pass_.module.log(f"faithfulness/{name}_deletion", deletion[k])
            pass_.module.log(f"faithfulness/{name}_insertion", insertion[k])
            if name != self.truth:
                correlation = evidence.correlation[:, k].nanmean().float()
                pass_.module.log(f"faithfulness/{name}_rank_correlation", correlation)

    def report(self, pass_: Pass) -> None:
        """Write the table and the picture of what was measured."""
        if self.evidence is None or not pass_.trainer.is_global_zero:
            return
        table = faithfulness_table(self.evidence, list(self.methods), self.reference, self.confidence)
        publish_table(pass_.trainer, "faithfulness", table)
        path = run_dir(pass_.trainer) / "pictures" / "faithfulness.png"
        save_figure(draw_curves(self.evidence, table, self.confidence), path, dpi=120)
        publish_picture(pass_.trainer, "pictures/faithfulness", path)
