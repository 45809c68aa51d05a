"""What tells that something was learned: `python benchmarks/sanity.py --out DIR`.

Trains the default autoencoder for each seed by the user's own command, on the embedded world and on
Fashion-MNIST (with one small CLIP from scratch, which is its own judge, see real_runs.py), and once more on a
CLIP with random weights of that seed, and reads the `baselines.csv` of each run and the last values of the
random one. Runs that are there are not made again. For each number and baseline it prints
the difference, trained minus baseline, with an interval over the seeds, and whether that interval lies in
the better direction of 0. It writes `sanity.csv`, and with `--page` the tables of the docs.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import fashion_pictures
import pandas as pd
import torch
from real_goals import CLEAN
from real_runs import Case, arguments, clip, clip_arguments, train
from rich.console import Console
from rich.table import Table

from lightning_sae.baselines.comparison import NAMES, is_silent
from lightning_sae.metrics.welch import mean_difference
from lightning_sae.runs.folder import RunFolder
from lightning_sae.tracking.values import better

DATA = ("world", "fashion")
RANDOM = "random_clip"  # the baseline that is another run


def measured(data: str, seed: int, out: Path, overrides: Sequence[str]) -> pd.DataFrame:
    """Return the numbers of a run beside those of its baselines, of a random CLIP as well."""
    found = pd.read_csv(trained(data, seed, out, overrides) / "baselines.csv")
    without = [f"experiment={RANDOM}", f"clip.random_seed={seed}", "~callbacks.baselines", *overrides]
    numbers = RunFolder(trained(data, seed, out, without, f"-{RANDOM}")).metrics
    own = found.drop_duplicates("key")[["key", "trained"]]
    random = own.assign(baseline=RANDOM, baseline_value=own["key"].map(numbers)).dropna()
    return pd.concat([found, random]).assign(data=data, seed=seed)


def trained(data: str, seed: int, out: Path, overrides: Sequence[str], of: str = "") -> Path:
    """Return the folder of a run, made if it is not there; `of` is what tells it from others of its seed."""
    folder = out / "runs" / f"{data}{of}-seed{seed}"
    if not (folder / "sae").exists():
        given = [f"data.store_dir={out / 'store'}"]
        if data == "fashion":
            given = _on_fashion(out, random=bool(of))
        train(folder, [*given, f"seed={seed}", *overrides])
    return folder


def _on_fashion(out: Path, random: bool) -> list[str]:
    """Return the arguments of a run; a CLIP with random weights is judged by the one that it stands for."""
    source = fashion_pictures.source()
    given = arguments(source, Case(CLEAN, "apart", 0, own_judge=True), out)
    return given + random * clip_arguments("clip@data.judge", "data.judge", clip(source, CLEAN, 0, out))


def over_seeds(found: pd.DataFrame) -> pd.DataFrame:
    """Return a row per data, number and baseline: the mean difference over the seeds and its interval."""
    groups = found.groupby(["data", "key", "baseline"], sort=False)
    return pd.DataFrame([_row(*name, rows) for name, rows in groups])


def _row(data: str, key: str, baseline: str, rows: pd.DataFrame) -> dict[str, object]:
    differences = torch.tensor((rows["trained"] - rows["baseline_value"]).to_numpy())
    found = mean_difference(differences, torch.zeros_like(differences), paired=True)
    tells = found.low > 0 if better(key) == "max" else found.high < 0
    alone = rows["tells"].notna().sum() - rows["tells"].map(is_silent).sum()
    means = rows[["trained", "baseline_value"]].mean()
    names = {"data": data, "key": key, "baseline": baseline}
    return {**names, **means, **found._asdict(), "tells": tells, "alone": alone, "seeds": len(rows)}


def sentences(table: pd.DataFrame) -> Iterator[str]:
    """Yield which numbers tell from every baseline that has them, a line per kind of data."""
    for data, rows in table.groupby("data", sort=False):
        tells = rows.groupby("key", sort=False)["tells"].all()
        for word, keys in {"tell": tells[tells].index, "do not tell": tells[~tells].index}.items():
            yield f"{data}: {len(keys)} numbers {word}: {', '.join(keys)}"


def cells(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of one kind of data: difference and interval, bold where it tells."""
    names = [name for name in (*NAMES, RANDOM) if name in set(table["baseline"])]
    rows = []
    for key, found in table.groupby("key", sort=False):
        by_name = {row.baseline: row for row in found.itertuples()}
        trained = found["trained"].iloc[0]
        rows.append([f"`{key}`", f"{trained:.3g}", *(_cell(by_name.get(name)) for name in names)])
    return ["number", "trained", *names], rows


def _cell(row: object) -> str:
    if row is None:
        return ""
    text = f"{row.mean:+.3g} [{row.low:+.2g}, {row.high:+.2g}]"  # type: ignore[attr-defined]
    return f"**{text}**" if row.tells else text  # type: ignore[attr-defined]


def page(table: pd.DataFrame) -> str:
    """Return the tables in Markdown."""
    parts = []
    for data, rows in table.groupby("data", sort=False):
        header, body = cells(rows)
        lines = [header, ["---"] * len(header), *body]
        parts.append(f"### {data}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")
    return "\n".join(parts)


def show(console: Console, table: pd.DataFrame) -> None:
    """Print the tables and what tells."""
    for data, rows in table.groupby("data", sort=False):
        header, body = cells(rows)
        shown = Table(*header, title=f"{data}: trained minus baseline, over {rows['seeds'].max()} seeds")
        for line in body:
            shown.add_row(*(f"[green]{text.strip('*')}[/]" if text[:2] == "**" else text for text in line))
        console.print(shown)
    for sentence in sentences(table):
        console.print(sentence, highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--page", help="file for the tables in Markdown")
    parser.add_argument("overrides", nargs="*", help="of the trainings on the world")
    options = parser.parse_args()
    out, found = Path(options.out).resolve(), []
    for data in options.data:
        for seed in options.seeds:
            found.append(measured(data, seed, out, options.overrides))
    table = over_seeds(pd.concat(found))
    table.to_csv(out / "sanity.csv", index=False)
    show(Console(width=150), table)
    if options.page:
        Path(options.page).write_text(page(table), encoding="utf-8")


if __name__ == "__main__":
    main()
