"""Where culprits come from, against the world's truth: `python benchmarks/origins.py RUN`.

RUN is a run of the biased world with an `audit.json` that has traced its culprits to earlier hook points
(`lightning-sae audit RUN --earlier DIR`, or a run with `hook_points=[...]`). For each planted spurious and
typographic case it prints the strongest source of the worst culprit, and the AUROC of both for the planted
factor on test pictures, which the audit has not seen. With `--corrections` also what corrections chosen on
val do on test: the best at the hook point of the run, the best that ablates sources, and which is chosen.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console
from torch import Tensor

from lightning_sae.audit.audited import audited_classifier
from lightning_sae.audit.findings import Audit, Finding, read_audit
from lightning_sae.clip import activations_at
from lightning_sae.correct import Record, correct
from lightning_sae.metrics import auroc
from lightning_sae.runs.earlier import read_earlier
from lightning_sae.runs.folder import RunFolder, open_run
from lightning_sae.runs.layers import RunLayer
from lightning_sae.world import Plant, plants

IMAGES = 1000  # test pictures
FACTORS = {"spurious": "background", "typographic": "word"}


def cases(audit: Audit) -> Iterator[tuple[Plant, Finding]]:
    """Yield the planted cases with the finding of their class and kind."""
    for plant in (plant for kind in FACTORS for plant in plants(kind)):
        mine = (f for f in audit.findings if (f.class_name, f.kind) == (plant.thing, plant.kind))
        yield from ((plant, finding) for finding in list(mine)[:1])


def sources(run: RunFolder, audit: Audit) -> Iterator[dict[str, Any]]:
    """Yield a row per case and earlier hook point."""
    images = run.data.images("test")
    pixels = torch.stack([run.data.clip.preprocess(images[i]) for i in range(min(IMAGES, len(images)))])
    own = RunLayer(run.data.hook, run.sae, run.latents)
    for plant, finding in cases(audit):
        values, truth = images.factors[FACTORS[plant.kind]]
        has = truth[: len(pixels)] == values.index(plant.factor)
        for origin in finding.origins:
            traced, shared = origin.culprits[0], origin.shared
            early = read_earlier(run, origin.folder).layer
            yield {
                "kind": plant.kind,
                "class": plant.thing,
                "factor": plant.factor,
                "at": origin.layer,
                "culprit": tells(run, own, traced.latent, pixels, has),
                "source": tells(run, early, traced.sources[0].latent, pixels, has),
                "called": traced.sources[0].label,
                "share": traced.sources[0].share,
                "leak": traced.leak,
                "overlap": shared and shared.overlap,
                "random": shared and shared.random,
                "p": shared and shared.p_value,
            }


@torch.no_grad()
def tells(run: RunFolder, layer: RunLayer, latent: int, pixels: Tensor, has: Tensor) -> float:
    """Return the AUROC of a latent, its largest activation over tokens, for the pictures with a factor."""
    parts = []
    for some in pixels.split(250):
        x = activations_at(run.data.clip, [layer.hook_point], some)[layer.hook_point]
        active = layer.sae.encode(x.flatten(0, 1)).columns(torch.tensor([latent])).to_dense()
        parts.append(active.view(x.shape[:2]).amax(1))
    return float(auroc(torch.cat(parts), has))


def corrections(run: RunFolder, audit: Audit) -> Iterator[dict[str, Any]]:
    """Yield a row per case and place at which it may be corrected."""
    classifier = audited_classifier(run, audit)
    for _, finding in cases(audit):
        places = {"run's own": (finding.model_copy(update={"origins": ()}), None)}
        places |= {origin.layer: (finding, origin.layer) for origin in finding.origins}
        for name, (one, at) in places.items():
            row = {"class": finding.class_name, "at": name}
            try:
                yield row | measures(correct(run, classifier, one, at=at).record)
            except ValueError as error:
                yield row | {"way": str(error)}


def measures(record: Record) -> dict[str, Any]:
    """Return what a correction does."""
    val, test = record.chosen, record.measured
    return {
        "way": record.way if record.held is None else f"{record.way} {len(record.held.latents)}",
        "val": f"{val.worst.before:.3f} -> {val.worst.after:.3f}",
        "test": f"{test.worst.before:.3f} -> {test.worst.after:.3f}",
        "accuracy": f"{test.accuracy.before:.3f} -> {test.accuracy.after:.3f}",
        "loses most": f"{record.classes[0].name} {record.classes[0].accuracy.gain:+.3f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--audit", type=Path, help="folder of its audit.json (RUN)")
    parser.add_argument("--corrections", action="store_true", help="also correct each case; minutes each")
    options = parser.parse_args()
    run, audit, console = open_run(options.run), read_audit(options.audit or options.run), Console(width=180)
    console.print(pd.DataFrame(sources(run, audit)).round(3).to_string(index=False))
    if options.corrections:
        console.print(pd.DataFrame(corrections(run, audit)).to_string(index=False))


if __name__ == "__main__":
    main()
