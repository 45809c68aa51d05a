"""Concepts that the vocabulary lacks, on known truth: `python benchmarks/naming.py --out DIR`.

For each seed the default autoencoder is trained on the embedded world by the user's own command, and
labelled with the whole vocabulary. Then 30 % of the factors' words are taken out, others for each seed, and
the same autoencoder is validated with what is left. A latent *of* a left-out word is one that the whole
vocabulary named so, or one whose activation detects its value (AUROC 0.95). How many of them are called
novel, and how many of the others? Names are proposed for the novel ones; what the data's own columns say is
left out, as here they are the truth. The AUROC of the best proposal (by the images that chose it) and that of
the true word are compared on the images that did not choose. Last, combined factors are planted as latents:
what fires on nine of ten images with both of two values, and on one of a thousand others, is to be named by
both words.

The labels of named latents are also carried over to the run of the next seed as if a person had written them:
how many of the latents that they reach has that run named itself, and how often by the same label?

Settings were chosen on seed 0; runs that are there are not made again.
"""

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, Literal

import pandas as pd
import torch
from real_runs import train
from rich.console import Console
from rich.table import Table
from torch import Tensor

from lightning_sae.compare.runs import Run
from lightning_sae.concepts.stored_vocabulary import stored_vocabulary
from lightning_sae.concepts.vocabulary import embed_labels
from lightning_sae.data.images.image_set import known_factors
from lightning_sae.metrics import ActiveRanks
from lightning_sae.names.candidates import Halves, best_candidate
from lightning_sae.names.carry import carried_names
from lightning_sae.names.proposals import images_of, propose_names, wanted_latents
from lightning_sae.names.sources import Compositions
from lightning_sae.runs.folder import RunFolder, open_run
from lightning_sae.world import World, label_of

Factor = Literal["class", "colour", "background", "word"]
FACTORS: tuple[Factor, ...] = ("class", "colour", "background", "word")
LEFT_OUT = 0.3  # of the words
DETECTED = 0.95  # AUROC of a detector, as in `truth.csv`
WITHIN = 0.03  # AUROC of the true word's
COMBINED: tuple[tuple[Factor, Factor], ...] = (
    *(("class", "background"), ("colour", "background"), ("class", "colour")),
)
PLANTED = 30  # of each kind
LEAVE = ["~callbacks.baselines", "~callbacks.pairs", "~callbacks.faithfulness", "~callbacks.report"]


def left_out(seed: int) -> list[str]:
    """Return the words that are taken out."""
    words = [word for factor in FACTORS for word in label_of(factor)]
    order = torch.randperm(len(words), generator=torch.Generator().manual_seed(seed))
    return [words[i] for i in order[: round(LEFT_OUT * len(words))].tolist()]


def runs_of(seed: int, out: Path) -> tuple[RunFolder, RunFolder]:
    """Return the run with the whole vocabulary and the same with what is left; made if they are not there."""
    given = [f"seed={seed}", f"data.store_dir={out / 'store'}", *LEAVE]
    whole, part = out / "runs" / f"whole{seed}", out / "runs" / f"part{seed}"
    if not (whole / "sae").exists():
        train(whole, given)
    if not (part / "sae").exists():
        words = out / f"words{seed}.txt"
        absent = set(left_out(seed))
        kept = [word for word in World("balanced", "val", 1).vocabulary if word not in absent]
        words.write_text("\n".join(kept) + "\n", encoding="utf-8")
        checkpoint = f"ckpt_path={whole / 'checkpoints' / 'last.ckpt'}"
        train(part, [*given, "task=validate", checkpoint, "labels=file", f"labels.path={words}"])
        shutil.copytree(whole / "sae", part / "sae")
    device = torch.device("cpu")
    return open_run(whole, device=device), open_run(part, device=device)


def detectors(run: RunFolder) -> dict[str, list[int]]:
    """Return the latents that detect the value of each word."""
    images = images_of(run)
    ranks, found = ActiveRanks.of(images.latents), {}
    for factor, (values, truth) in known_factors(run.data.images("val")).items():
        aurocs = ranks.aurocs(truth[images.image_ids], len(values))
        words = label_of(factor)  # type: ignore[arg-type]
        found |= {
            word: row.nonzero().squeeze(1).tolist()
            for word, row in zip(words, aurocs >= DETECTED, strict=True)
        }
    return found


def finding(whole: RunFolder, part: RunFolder, absent: set[str]) -> dict[str, float]:
    """Return how many latents of the absent words, and of the others, are called novel."""
    named, novel = whole.latents[whole.latents["named"]], part.latents["novel"]
    of_absent = named["label"].isin(absent)
    by_truth = detectors(whole)
    mine = {j for word in absent for j in by_truth[word]}
    others = {j for word, latents in by_truth.items() if word not in absent for j in latents} - mine
    return {
        "latents": float(of_absent.sum()),
        "novel": float(novel[named.index[of_absent]].mean()),
        "others": float((~of_absent).sum()),
        "others_novel": float(novel[named.index[~of_absent]].mean()),
        "detectors": float(len(mine)),
        "detectors_novel": float(novel[sorted(mine)].mean()),
        "other_detectors": float(len(others)),
        "other_detectors_novel": float(novel[sorted(others)].mean()),
        "without_a_name": float(len(whole.latents) - len(named)),
        "without_a_name_novel": float(novel[whole.latents.index.difference(named.index)].mean()),
        "all_novel": float(novel.sum()),
        "groups": float(part.latents["novel_group"].max() + 1),
    }


def naming(whole: RunFolder, part: RunFolder, absent: set[str]) -> tuple[pd.DataFrame, int]:
    """Return a row per novel latent of an absent word and source, and how many these latents are.

    Beside the validity of the proposal stands that of the true word on the same images.
    """
    images, novel = images_of(part), wanted_latents(part)
    true = whole.latents.loc[novel]
    true = true[true["named"] & true["label"].isin(absent)]["label"]
    found = propose_names(part, [int(j) for j in true.index])
    words = sorted(set(true))
    texts = embed_labels(whole.data.judge, words, ["{}"]).float().cpu()
    fires = images.latents.columns(torch.tensor(true.index.tolist())).to_dense() > 0
    scores = images.embeddings @ texts.T
    own = {
        j: images.halves.validity(scores[:, words.index(word)], fires[:, i])
        for i, (j, word) in enumerate(true.items())
    }
    found = found[found["source"] != "columns"]
    return found.assign(true=found["latent"].map(true), true_validity=found["latent"].map(own)), len(true)


def planted(run: RunFolder, seed: int) -> Iterator[dict[str, Any]]:
    """Yield what latents that are planted on combined factors are called."""
    images, factors = run.data.images("val"), known_factors(run.data.images("val"))
    vocabulary = stored_vocabulary(run.data, run.data.judge, run.vocabulary())
    embeddings, halves = run.judge_embeddings(), Halves.of(len(images))
    random, generator = Random(seed), torch.Generator().manual_seed(seed)

    def embed(texts: Any) -> Tensor:
        return embed_labels(run.data.judge, texts, ["{}"])

    source = Compositions("vocabulary", vocabulary.labels, vocabulary.texts, embeddings, halves, embed)
    for pair in COMBINED:
        for _ in range(PLANTED):
            values = [random.randrange(len(factors[factor][0])) for factor in pair]
            both = torch.stack([factors[f][1] == v for f, v in zip(pair, values, strict=True)]).all(0)
            fires = both & (torch.rand(len(both), generator=generator) < 0.9)
            fires |= torch.rand(len(both), generator=generator) < 0.001
            wanted = [label_of(factor)[v] for factor, v in zip(pair, values, strict=True)]
            best = best_candidate(source.candidates(fires[halves.choosing]), fires, halves)
            true = halves.validity(embeddings @ embed([" ".join(wanted)])[0], fires)
            name = best.candidate.name if best else ""
            left = name
            for word in wanted:
                left = left.replace(word, "", 1) if word in left else left + " missing"
            yield {
                "pair": " and ".join(pair),
                "wanted": " + ".join(wanted),
                "name": name,
                "both": not left.strip(),
                "validity": halves.validity(best.candidate.scores, fires) if best else float("nan"),
                "true_validity": true,
            }


def carrying(first: RunFolder, second: RunFolder) -> dict[str, float]:
    """Return how many names are carried over, and how often the other run found the same one itself."""
    source, target = (Run(run.folder, run.folder.name) for run in (first, second))
    named = source.latents[source.latents["named"]]
    source.own_names = {int(j): str(label) for j, label in named["label"].items()}
    found = carried_names(source, target).names
    reached = target.latents.loc[list(found)].assign(carried=list(found.values()))
    known = reached[reached["named"]]
    return {
        "carried_share": len(found) / len(named),
        "carried_to_named": float(len(known)),
        "carried_to_the_same_label": float((known["label"] == known["carried"]).mean()),
    }


def best_of(found: pd.DataFrame) -> pd.DataFrame:
    """Return the proposal of each latent that is best on the images that choose."""
    return found.sort_values("chosen", ascending=False, kind="stable").drop_duplicates("latent")


def share_near(found: pd.DataFrame, latents: int) -> float:
    """Return the share of the latents with a proposal within 0.03 of the true word's AUROC, or above."""
    best = best_of(found)
    return float((best["validity"] >= best["true_validity"] - WITHIN).sum() / latents)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    options = parser.parse_args()
    out, console = options.out.resolve(), Console(width=150)
    rows, plants, proposed = [], [], []
    for seed in options.seeds:
        whole, part = runs_of(seed, out)
        absent = set(left_out(seed))
        found, n = naming(whole, part, absent)
        proposed.append(found.assign(seed=seed))
        combined = pd.DataFrame(planted(whole, seed)).assign(seed=seed)
        plants.append(combined)
        near = {f"near_{source}": share_near(some, n) for source, some in found.groupby("source")}
        both = combined.groupby("pair", sort=False)["both"].mean()
        after = options.seeds[(options.seeds.index(seed) + 1) % len(options.seeds)]
        if after != seed:
            both = pd.concat([both, pd.Series(carrying(whole, runs_of(after, out)[0]))])
        rows.append(
            {"seed": seed, **finding(whole, part, absent), "near": share_near(found, n), **near, **both}
        )
    table = pd.DataFrame(rows).set_index("seed")
    shown = Table("", *(f"seed {seed}" for seed in table.index))
    for key, column in table.items():
        whole_numbers = (column > 1).any()
        cells = (f"{x:.0f}" if whole_numbers else f"{x:.1%}" for x in column)
        shown.add_row(str(key), *cells)
    console.print(shown)
    pd.concat(proposed).to_csv(out / "naming_proposals.csv", index=False)
    pd.concat(plants).to_csv(out / "naming_planted.csv", index=False)
    table.to_csv(out / "naming.csv")
    console.print(f"numbers in {out}")


if __name__ == "__main__":
    main()
