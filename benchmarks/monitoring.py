"""What the monitor raises, and what it leaves alone: `python benchmarks/monitoring.py --runs DIR`.

On the embedded world, whose truth is known. Reference and stream are drawn anew for each trial, without
overlap, from one pool of test pictures that neither autoencoder nor run has seen: chance in the reference
counts as well. Streams are watched after each image.

- stationary: nothing changes in 10,000 images; how many streams raise any alarm, of which alpha allows 5 %.
- rise: the share of a factor value, 5 % in the reference, is 15 % from image 1,000 on (late: 5,000). How many
  images until the first alarm, and is it of a latent of that value, one that tells no other value better?
- drift: the share moves from 5 % to 15 % over 10,000 images.
- new: one image in ten shows a thing that the world does not have; does the error raise an alarm?
- speed: images a second with the monitor, over those of the bare CLIP, interleaved; of the world's CLIP, and
  of a ViT-B-32 that has learned nothing, with an autoencoder of 8,192 latents, 32 of them active.

Bets, starts, scales and the parts of alpha were chosen on other trials (`--tuning`) than those reported. DIR
holds `world`, an audited run of the default recipe; it is trained where it is missing.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import normalize

from lightning_sae.classifiers.linear import LinearClassifier
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.clip import HookPoint, load_clip, make_tail
from lightning_sae.metrics import sparse_auroc
from lightning_sae.monitoring.evidence import NEVER, MeanEvidence
from lightning_sae.monitoring.fit import fit_reference
from lightning_sae.monitoring.image_numbers import ImageNumbers
from lightning_sae.monitoring.looking import Looking
from lightning_sae.monitoring.monitor import Monitor
from lightning_sae.monitoring.reference import Reference, ReferenceFacts, numbers_of, tensors_of
from lightning_sae.monitoring.state import State
from lightning_sae.runs.folder import RunFolder, open_run
from lightning_sae.runs.image_latents import load_image_latents
from lightning_sae.sae import TopK
from lightning_sae.world import World
from lightning_sae.world.scene import THINGS

ROOT = Path(__file__).resolve().parents[1]
POOL, REFERENCE, STREAM = 24_000, 4_000, 10_000
BEFORE, AFTER, CHANGE, LATE = 0.05, 0.15, 1_000, 5_000
AFTERWARDS = 1_500  # images of a stream after a change
DETECTS = 0.95  # AUROC on val of a latent that a value needs to be among those that change
NEW_THINGS = {"snowman": "☃", "scissors": "✂", "recycling": "♻", "wheelchair": "♿"}
NEW_SHARE = 0.1


class Pool(NamedTuple):
    """Test pictures, and what is known of them.

    Attributes:
        numbers: what is watched of each.
        factors: factor -> (values, `[n]`).
        aurocs: (factor, value) -> `[d_sae]`, how well the activations of each latent tell it on val.
    """

    numbers: ImageNumbers
    factors: Mapping[str, tuple[list[str], Tensor]]
    aurocs: Mapping[tuple[str, str], Tensor]


class Stream(NamedTuple):
    """A trial, as rows of the pool."""

    reference: np.ndarray
    stream: np.ndarray


def take(numbers: ImageNumbers, rows: np.ndarray) -> ImageNumbers:
    """Return some images, in the order of `rows`."""
    latents, ids = numbers.latents, torch.as_tensor(rows)
    counts = latents.offsets.diff()[ids]
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    place = torch.arange(int(offsets[-1])) - offsets[:-1].repeat_interleave(counts)
    entries = latents.offsets[ids].repeat_interleave(counts) + place
    picked = type(latents)(latents.values[entries], latents.indices[entries], offsets, latents.d_sae)
    shares = picked.with_values(numbers.shares.values[entries])
    return ImageNumbers(picked, shares, *(part[ids] for part in numbers[2:]))


def looked_at(looking: Looking, pictures: Iterator[Image.Image], n: int) -> ImageNumbers:
    """Return what is watched of pictures."""
    parts, batch = [], []
    for i, picture in enumerate(track(pictures, "looking at pictures", total=n), 1):
        batch.append(looking.clip.prepare(picture))
        if len(batch) == 64 or i == n:
            parts.append(looking.at_pixels(looking.clip.finish(torch.stack(batch)), 0))
            batch = []
    return ImageNumbers.stack(parts)


def pool_numbers(looking: Looking) -> ImageNumbers:
    """Return the pool; its pictures have another seed than those of the run."""
    world = World("biased", "test", POOL, seed=1)
    return looked_at(looking, (world.image(i) for i in range(POOL)), POOL)


def aurocs_on_val(run: RunFolder) -> dict[tuple[str, str], Tensor]:
    """Return how well each latent tells each factor value on the validation images."""
    kept = load_image_latents(run.folder)
    return {
        (factor, value): sparse_auroc(kept.latents, truth[kept.image_ids] == i)
        for factor, (values, truth) in run.data.images("val").factors.items()
        for i, value in enumerate(values)
    }


def new_things(looking: Looking, n: int) -> ImageNumbers:
    """Return pictures of things that the world does not have."""
    world, names = World("biased", "test", n, seed=2), [*NEW_THINGS]
    with patch.dict(THINGS, NEW_THINGS):
        pictures = (world.counterfactual(i, thing=names[i % len(names)]) for i in range(n))
        return looked_at(looking, pictures, n)


def both_tensors(*parts: ImageNumbers) -> dict[str, Tensor]:
    """Return the tensors of a file."""
    return {
        f"{i}.{name}": tensor for i, part in enumerate(parts) for name, tensor in tensors_of(part).items()
    }


def both_numbers(tensors: Mapping[str, Tensor], d_sae: int) -> list[ImageNumbers]:
    """Return what `both_tensors` made a file of."""
    parts = ({k[2:]: v for k, v in tensors.items() if k.startswith(f"{i}.")} for i in range(2))
    return [numbers_of(part, d_sae) for part in parts]


def trial_reference(whole: Reference, pool: Pool, rows: np.ndarray) -> Reference:
    """Return the reference of a trial."""
    return Reference(whole.facts, take(pool.numbers, rows), whole.classifier)


def watched(reference: Reference, numbers: ImageNumbers, step: int = 500) -> MeanEvidence:
    """Return the evidence after a stream; it ends with the first alarm."""
    evidence = MeanEvidence.empty(sum(reference.tests.sizes))
    for start in range(0, numbers.n, step):
        part = numbers.images(start, min(start + step, numbers.n))
        reference.watch.update(evidence, reference.entries(part))
        if (evidence.raised != NEVER).any():
            break
    return evidence


def first_alarm(evidence: MeanEvidence) -> tuple[int, int]:
    """Return after how many images the first alarm was raised, and its test; of several the surest."""
    there = np.flatnonzero(evidence.raised != NEVER)
    if not len(there):
        return NEVER, NEVER
    first = evidence.raised[there].min()
    same = there[evidence.raised[there] == first]
    return int(first), int(same[evidence.log_e()[same].argmax()])


def with_shares(truth: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> Stream:
    """Return a trial whose images have a factor value with given shares, in the reference with `BEFORE`."""
    has, lacks = (rng.permutation(np.flatnonzero(truth == each)) for each in (True, False))
    wanted = np.concatenate([np.full(REFERENCE, BEFORE), shares])
    drawn = rng.random(len(wanted)) < wanted
    assert drawn.sum() <= len(has)
    assert (~drawn).sum() <= len(lacks)
    rows = np.empty(len(wanted), dtype=np.int64)
    rows[drawn], rows[~drawn] = has[: drawn.sum()], lacks[: (~drawn).sum()]
    return Stream(rows[:REFERENCE], rows[REFERENCE:])


def stationary(whole: Reference, pool: Pool, trials: range) -> pd.DataFrame:
    rows = []
    for trial in track(trials, "stationary"):
        order = np.random.default_rng([1, trial]).permutation(POOL)
        reference = trial_reference(whole, pool, order[:REFERENCE])
        stream = take(pool.numbers, order[REFERENCE : REFERENCE + STREAM])
        when, test = first_alarm(watched(reference, stream))
        rows.append({"trial": trial, "raised": when, "test": test})
    return pd.DataFrame(rows)


def detected(pool: Pool) -> tuple[dict[tuple[str, str], np.ndarray], dict[int, tuple[str, str]]]:
    """Return the values that some latent tells, with who has them, and of each latent the best value."""
    best = torch.stack([*pool.aurocs.values()]).argmax(0).tolist()
    keys = [*pool.aurocs]
    told = [key for key, auroc in pool.aurocs.items() if float(auroc.max()) >= DETECTS]
    truths = {
        (f, v): (truth == i).numpy() for f, (vs, truth) in pool.factors.items() for i, v in enumerate(vs)
    }
    return {key: truths[key] for key in told}, {latent: keys[i] for latent, i in enumerate(best)}


def rises(whole: Reference, pool: Pool, trials: range, change: int, kinds: tuple[str, ...]) -> pd.DataFrame:
    told, best = detected(pool)
    keys = [key for key in told if key[0] in kinds]
    rows = []
    for trial in track(trials, f"rise at {change}"):
        key = keys[trial % len(keys)]
        shares = np.concatenate([np.full(change, BEFORE), np.full(AFTERWARDS, AFTER)])
        made = with_shares(told[key], shares, np.random.default_rng([2, trial]))
        rows.append({"trial": trial, "value": "=".join(key), **outcome(whole, pool, made, change, best, key)})
    return pd.DataFrame(rows)


def outcome(
    whole: Reference,
    pool: Pool,
    made: Stream,
    change: int,
    best: Mapping[int, tuple[str, str]],
    key: tuple[str, str],
) -> dict[str, object]:
    reference = trial_reference(whole, pool, made.reference)
    when, test = first_alarm(watched(reference, take(pool.numbers, made.stream)))
    if when == NEVER:
        return {"found": False, "early": False, "delay": np.inf, "right": False, "family": ""}
    family, latent = reference.tests.named(test)
    right = latent is not None and best[latent] == key
    return {
        "found": when > change,
        "early": when <= change,
        "delay": when - change,
        "right": right,
        "family": family,
    }


def drifts(whole: Reference, pool: Pool, trials: range) -> pd.DataFrame:
    told, best = detected(pool)
    keys = [key for key in told if key[0] in ("colour", "background")]
    rows = []
    for trial in track(trials, "drift"):
        key = keys[trial % len(keys)]
        made = with_shares(told[key], np.linspace(BEFORE, AFTER, STREAM), np.random.default_rng([3, trial]))
        rows.append({"trial": trial, "value": "=".join(key), **outcome(whole, pool, made, 0, best, key)})
    return pd.DataFrame(rows)


def strangers(whole: Reference, pool: Pool, new: ImageNumbers, trials: range) -> pd.DataFrame:
    both, rows = ImageNumbers.stack([pool.numbers, new]), []
    error = 2 * new.latents.d_sae + 1
    for trial in track(trials, "new things"):
        rng = np.random.default_rng([4, trial])
        order, things = rng.permutation(POOL), POOL + rng.permutation(new.n)
        stream = order[REFERENCE : REFERENCE + CHANGE + AFTERWARDS].copy()
        places = CHANGE + np.flatnonzero(rng.random(AFTERWARDS) < NEW_SHARE)
        stream[places] = things[: len(places)]
        reference = trial_reference(whole, pool, order[:REFERENCE])
        evidence = MeanEvidence.empty(sum(reference.tests.sizes))
        reference.watch.update(evidence, reference.entries(take(both, stream)))
        raised = evidence.raised[error]
        rows.append({
            "trial": trial, "found": raised > CHANGE, "delay": raised - CHANGE if raised != NEVER else np.inf,
            "early": NEVER < raised <= CHANGE, "alarms": int((evidence.raised != NEVER).sum()),
        })  # fmt: skip
    return pd.DataFrame(rows)


def world_pixels(looking: Looking, images: int) -> list[Tensor]:
    """Return batches of decoded pictures."""
    world = World("biased", "test", images, seed=3)
    return [*torch.stack([looking.clip.prepare(world.image(i)) for i in range(images)]).split(64)]


def large() -> Looking:
    """Return a ViT-B-32 with an autoencoder behind its last block; nothing has learned anything."""
    clip = load_clip("ViT-B-32", random_seed=0)
    hook = HookPoint("visual.transformer.resblocks.11", "cls")
    torch.manual_seed(0)
    sae = TopK(768, 8192, k=32)
    classes = ClassScores(normalize(torch.randn(1000, clip.embed_dim), dim=1), "margin", clip.logit_scale)
    return Looking(clip, hook, make_tail(clip, hook), sae, classes, {}, 1)


def large_reference(looking: Looking, pixels: list[Tensor]) -> Reference:
    """Return a reference of a few images, for its cost alone."""
    facts = ReferenceFacts(
        run="", sae_sha256="", images="", class_names=[str(c) for c in range(1000)], labels=[""] * 8192,
        alpha=0.05, attribute_every=1, culprits={}, audited=False,
    )  # fmt: skip
    numbers = [looking.at_pixels(looking.clip.finish(batch), 0) for batch in pixels]
    return Reference(facts, ImageNumbers.stack(numbers), LinearClassifier(torch.empty(0), torch.empty(0)))


def speed(looking: Looking, whole: Reference, pixels: list[Tensor], rounds: int) -> list[float]:
    """Return images a second with the monitor over those of the bare CLIP, of each round."""
    monitor = Monitor(looking, whole, State.new(whole.tests.d_sae, sum(whole.tests.sizes), ""), Path())
    ratios = []
    for _ in range(rounds):
        bare = with_monitor = 0.0
        for batch in pixels:
            start = time.perf_counter()
            with torch.no_grad():
                looking.clip.encode_image(looking.clip.finish(batch))
            between = time.perf_counter()
            monitor.update_prepared(batch)
            bare, with_monitor = bare + between - start, with_monitor + time.perf_counter() - between
        ratios.append(bare / with_monitor)
    return ratios


def say_speed(name: str, ratios: list[float]) -> None:
    ends = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"throughput over the bare CLIP, {name}: median {np.median(ratios):.2f} ({ends})")


def summary(name: str, found: pd.DataFrame) -> list[str]:
    """Return a row of the table."""
    if "delay" not in found:
        return [name, f"{len(found)}", f"{(found['raised'] != NEVER).mean():.1%} raise an alarm", "", ""]
    said = f"{found['found'].mean():.0%} found, {found['early'].mean():.1%} before the change"
    delays = found["delay"][~found["early"]]
    ends = "median {:.0f}, 90 % within {:.0f}".format(*(delays.quantile(q, "higher") for q in (0.5, 0.9)))
    right = f"{found['right'].mean():.0%}" if "right" in found else ""
    return [name, f"{len(found)}", said, ends, right]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=200, help="stationary ones; of the others half as many")
    parser.add_argument("--tuning", action="store_true", help="the trials that the settings were chosen on")
    parser.add_argument("--parts", nargs="+", default=["stationary", "rise", "late", "drift", "new", "speed"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = options.runs / "world"
    if not (folder / "audit.json").is_file():
        for words in (["train", f"hydra.run.dir={folder}"], ["audit", str(folder)]):
            subprocess.run([sys.executable, "-m", "lightning_sae", *words], cwd=ROOT, check=True)
    run = open_run(folder)
    whole = fit_reference(run)
    looking = Looking.of(run, whole.classifier, whole.facts.culprits)
    cached = options.runs / "pool.safetensors"
    if not cached.is_file():
        save_file(both_tensors(pool_numbers(looking), new_things(looking, 2000)), cached)
    numbers, new = both_numbers(load_file(cached), run.sae.d_sae)
    pool = Pool(numbers, World("biased", "test", POOL, seed=1).factors, aurocs_on_val(run))
    first = 0 if options.tuning else 1000
    trials = range(first, first + options.trials)
    some = trials[: options.trials // 2]
    parts = {
        "stationary": lambda: stationary(whole, pool, trials),
        "rise": lambda: rises(whole, pool, some, CHANGE, ("class", "colour", "background")),
        "late": lambda: rises(whole, pool, some, LATE, ("class", "colour", "background")),
        "drift": lambda: drifts(whole, pool, some),
        "new": lambda: strangers(whole, pool, new, some),
    }
    table = Table("", "streams", "outcome", "images until the first alarm", "right latent first")
    for name in options.parts:
        if name != "speed":
            found = parts[name]()
            found.to_csv(options.runs / f"monitoring_{name}.csv", index=False)
            table.add_row(*summary(name, found))
    Console(width=140).print(table)
    if "speed" in options.parts:
        say_speed("world", speed(looking, whole, world_pixels(looking, 1024), rounds=7))
        other = large()
        pixels = world_pixels(other, 128)
        say_speed("ViT-B-32", speed(other, large_reference(other, pixels), pixels, rounds=5))


if __name__ == "__main__":
    main()
