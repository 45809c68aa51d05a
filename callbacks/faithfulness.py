"""Whether attribution tells what drives the score, measured on the probe during training."""

from collections.abc import Mapping
from typing import get_args

import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from callbacks.attribution import Attribution
from callbacks.image_pass import reconstruct
from callbacks.parts import data_of, decoder_of, find, is_last_pass
from lightning_sae.attribution.faithfulness import Evidence, Method, faithfulness_table, measure
from lightning_sae.attribution.methods import Explained
from lightning_sae.classifiers.scores import Output, make_score
from lightning_sae.data import choose_probe
from lightning_sae.metrics import Interval, interval, mean_in_units
from lightning_sae.metrics.accuracy import predict
from lightning_sae.report.figures import save_figure
from lightning_sae.tracking.publish import publish_picture, publish_table, run_dir

CHUNK = 32  # probe images at a time
INK, GREY, LIGHT = "#1f2328", "#6e7781", "#d8dee4"
# Okabe and Ito's colours, which the colour-blind can tell apart
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#6a3d9a")


class Faithfulness(Callback):
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
        n_images: probe images, class-balanced, fixed by the data's seed.
        steps: of a curve.
        output: the score; `None`: that of the attribution callback, the margin if there is none.
        reference: name of the method that the others are compared with, image by image.
        truth: name of the method that the rank correlations are with.
        confidence: of the intervals.
        batch_size: edited images in one call of the tail.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        every: int = 4,
        n_images: int = 128,
        steps: int = 16,
        output: Output | None = None,
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
        if output is not None and output not in get_args(Output):
            raise ValueError(f"output must be one of {', '.join(get_args(Output))}; got {output!r}")
        for role, name in {"reference": reference, "truth": truth}.items():
            if name not in methods:
                raise ValueError(f"{role} must be one of the methods {', '.join(methods)}; got {name!r}")
        self.methods = dict(methods)
        self.every, self.n_images, self.steps, self.output = every, n_images, steps, output
        self.reference, self.truth, self.confidence = reference, truth, confidence
        self.batch_size = batch_size
        self.evidence: Evidence | None = None
        self._passes = 0

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures when its turn has come, and logs."""
        self.evidence = None
        if trainer.sanity_checking:
            return
        fitting = trainer.state.fn == "fit"
        self._passes += fitting
        if not fitting or self._passes % self.every == 0 or is_last_pass(trainer):
            self.evidence = self._measure(trainer, pl_module)
            self._log(pl_module, self.evidence)

    def _measure(self, trainer: Trainer, pl_module: LightningModule) -> Evidence:
        """What all ranks measured, each on its share of the images, in chunks that are always the same."""
        data = data_of(trainer)
        chosen = choose_probe(data.probe.targets.cpu(), self.n_images, data.seed)
        n, m, s = len(chosen), len(self.methods), self.steps + 1
        sizes = (n, s), (n, m, s), (n, m, s), (n, m)
        found = Evidence(*(torch.zeros(size, dtype=torch.float64) for size in sizes))
        for rows in torch.split(torch.arange(n), CHUNK)[trainer.global_rank :: trainer.world_size]:
            part = self._measure_images(trainer, pl_module, chosen[rows])
            for whole, piece in zip(found, part, strict=True):
                whole[rows] = piece
        everyone = (trainer.strategy.reduce(part.to(pl_module.device), reduce_op="sum") for part in found)
        return Evidence(*(part.cpu() for part in everyone))

    def _measure_images(self, trainer: Trainer, pl_module: LightningModule, images: Tensor) -> Evidence:
        data = data_of(trainer)
        explained, embeddings = _explain(trainer, pl_module, images)
        attribution = find(trainer, Attribution)
        score = make_score(
            data.class_embeddings,
            output=self.output or (attribution.output if attribution else "margin"),
            targets=predict(embeddings, data.class_embeddings),
            logit_scale=data.clip.logit_scale,
        )
        return measure(explained, score, self.methods, self.truth, self.steps, self.batch_size)

    def _log(self, pl_module: LightningModule, evidence: Evidence) -> None:
        deletion, insertion = (mean_in_units(areas, evidence.span).float() for areas in evidence.areas())
        for k, name in enumerate(self.methods):
            pl_module.log(f"faithfulness/{name}_deletion", deletion[k])
            pl_module.log(f"faithfulness/{name}_insertion", insertion[k])
            if name != self.truth:
                correlation = evidence.correlation[:, k].nanmean().float()
                pl_module.log(f"faithfulness/{name}_rank_correlation", correlation)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the table and the picture of what was measured."""
        if self.evidence is None or not trainer.is_global_zero:
            return
        table = faithfulness_table(self.evidence, list(self.methods), self.reference, self.confidence)
        publish_table(trainer, "faithfulness", table)
        path = run_dir(trainer) / "pictures" / "faithfulness.png"
        save_figure(draw_curves(self.evidence, table, self.confidence), path, dpi=120)
        publish_picture(trainer, "pictures/faithfulness", path)

    def state_dict(self) -> dict[str, int]:
        """How many passes there were."""
        return {"passes": self._passes}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Goes on counting."""
        self._passes = state_dict["passes"]


def _explain(trainer: Trainer, pl_module: LightningModule, rows: Tensor) -> tuple[Explained, Tensor]:
    """Probe images as the methods take them, and their embeddings `[n, d_embed]`."""
    data = data_of(trainer)
    rows = rows.to(data.probe.x.device)
    x, context = data.probe.x[rows], data.probe.context
    context = None if context is None else context[rows]
    x_hat, latents = reconstruct(pl_module, x)
    ids = data.probe.image_ids[rows]
    explained = Explained(data.tail, decoder_of(pl_module), x, x_hat, latents, context, ids)
    return explained, data.tail(x, context)


def draw_curves(evidence: Evidence, table: pd.DataFrame, confidence: float = 0.95) -> Figure:
    """Mean curves with bootstrap bands, deletion on the left and insertion on the right.

    Args:
        evidence: of `measure`.
        table: its `faithfulness_table`, a row per method.
        confidence: of the bands.
    """
    figure = Figure(figsize=(13, 6.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    kinds = {"deletion": ("lower", "removed"), "insertion": ("higher", "put back")}
    for axes, (kind, (better, done)), samples in zip(panels, kinds.items(), evidence.effects(), strict=True):
        bands = interval(samples, evidence.span, confidence, resamples=300)
        _draw_panel(axes, evidence.fractions.mean(0), bands, table, kind, best_first=better == "higher")
        axes.set_title(f"{kind.capitalize()}: {better} is better", loc="left", color=INK, weight="bold")
        axes.set_xlabel(f"share of an image's active latents {done}, highest value first", color=GREY)
    panels[0].set_ylabel("score  (1: as it is, 0: without its active latents)", color=GREY)
    return figure


def _draw_panel(
    axes: Axes, fractions: Tensor, bands: Interval, table: pd.DataFrame, kind: str, best_first: bool
) -> None:
    order = table[kind].sort_values(ascending=not best_first).index
    for k in order:
        row, colour = table.loc[k], COLOURS[k % len(COLOURS)]
        low, high = row[f"{kind}_low"], row[f"{kind}_high"]
        label = f"{row['method'].replace('_', ' ')}  {row[kind]:.2f}  [{low:.2f}, {high:.2f}]"
        axes.plot(fractions, bands.mean[k], color=colour, linewidth=1.8, label=label)
        axes.fill_between(fractions, bands.low[k], bands.high[k], color=colour, alpha=0.12, linewidth=0)
    axes.axhline(0, color=LIGHT, linewidth=1, zorder=0)
    axes.axhline(1, color=LIGHT, linewidth=1, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=GREY)
    axes.set_xlim(0, 1)
    axes.legend(
        title="area under the mean curve, with its interval, the best first",
        loc="upper left",
        bbox_to_anchor=(0, -0.12),
        ncols=2,
        frameon=False,
        fontsize=9,
        title_fontsize=9,
        alignment="left",
    )
