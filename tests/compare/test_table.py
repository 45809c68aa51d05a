"""The table of runs, and variants side by side, against written numbers."""

import math

import pandas as pd
import pytest
from rich.console import Console

from lightning_sae.baselines.comparison import COLUMNS
from lightning_sae.baselines.shown import LEGEND
from lightning_sae.compare.comparison import compare
from lightning_sae.compare.runs import read_runs
from lightning_sae.compare.table import cells, markdown, print_table, run_table, terminal
from lightning_sae.compare.terminal import print_comparison
from lightning_sae.compare.variants import CulpritShare, contrasts, find_variants, reliance_matrix
from lightning_sae.concepts.naming import LatentName
from lightning_sae.tracking.values import goal

from .conftest import write_run

FVU = goal("val/fvu")


def sweep(folder):
    """Four runs of k and one that did not finish."""
    for k, fvu in ((8, 0.3), (16, 0.2), (32, 0.1), (64, 0.15)):
        values = {"val/fvu": fvu, "val/l0": float(k), "zero_shot/original": 0.58371, "val/cosine": 0.9}
        write_run(folder / str(k), values, config={"sae": {"k": k}}, overrides=[f"sae.k={k}"])
    (write_run(folder / "128", {"val/fvu": 0.01}, {"sae": {"k": 128}}) / "sae" / "cfg.json").unlink()
    return folder


def test_best_first_and_the_unfinished_last(tmp_path):
    table = run_table(read_runs([sweep(tmp_path)]), FVU)
    assert table.keys == ["sae.k"]
    assert table.shown == ["val/fvu", "val/l0", "zero_shot/original"]
    assert table.frame.index.tolist() == ["32", "64", "16", "8", "128"]
    assert table.frame["val/fvu"].tolist() == [0.1, 0.15, 0.2, 0.3, 0.01]
    assert table.frame["finished"].tolist() == [True] * 4 + [False]
    assert table.frame["sae.k"].tolist() == ["32", "64", "16", "8", "128"]
    assert "val/cosine" in table.frame
    assert "sae/cfg.json" in table.frame.loc["128", "missing"]
    largest = run_table(read_runs([tmp_path]), goal("val/l0:max"))
    assert largest.frame.index[0] == "64"


def test_cells_are_what_people_read(tmp_path):
    header, rows = cells(run_table(read_runs([sweep(tmp_path)]), FVU), starred=["32"])
    assert header == ["run", "sae.k", "FVU", "L0", "accuracy"]
    assert rows[0] == ["32 *", "32", "0.1000", "32.0", "58.4 %"]
    assert rows[-1] == ["128", "128", "0.0100", "16.0", ""]


def test_the_terminal_is_eighty_columns_wide(tmp_path):
    console = Console(width=80, record=True)
    print_table(console, run_table(read_runs([sweep(tmp_path)]), FVU), FVU)
    text = console.export_text()
    assert "58.4 %" in text
    assert all(len(line) <= 80 for line in text.splitlines())


BASELINES = pd.DataFrame(
    [
        ["val/fvu", "untrained", 0.1, 0.7, -0.6, -0.7, -0.5, True],
        ["val/fvu", "neurons", 0.1, 0.4, -0.3, -0.4, -0.2, True],
        ["alignment/named", "untrained", 9.0, 8.0, 1.0, -2.0, 4.0, False],
        ["val/l0", "another", 16.0, 16.0, 0.0, None, None, None],
        ["val/cosine", "untrained", 0.9, 0.8, 0.1, -0.1, 0.3, False],
    ],
    columns=COLUMNS,
)


def test_a_number_that_does_not_tell_is_marked_and_stands_beside_its_baselines(tmp_path):
    write_run(tmp_path / "0", {"alignment/named": 9.0}, tables={"baselines": BASELINES})
    write_run(tmp_path / "1", {"alignment/named": 7.0, "val/fvu": 0.2})
    found = compare([tmp_path], FVU, (FVU, goal("alignment/named")))
    header, rows = cells(found.table)
    named = header.index("named")
    assert [row[named] for row in rows] == ["9 ≈", "7"]
    console = Console(width=80, record=True)
    print_comparison(console, found, tmp_path, [])
    lines = console.export_text().splitlines()
    beside = ["FVU 0.1000 (untrained 0.7000, neurons 0.4000)", "L0 16.0 (another 16.0)"]
    line = "; ".join([*beside, "named 9 (untrained 8: does not tell)"])
    assert [line for line in lines if "untrained" in line] == [f"0: {line}"]
    assert LEGEND in lines
    assert found.table.narrow(FVU).legend == LEGEND
    assert found.table._replace(shown=["val/fvu", "val/l0"]).legend == ""
    without = compare([tmp_path / "1"], FVU, (FVU, goal("alignment/named")))
    assert without.table.legend == ""


def test_what_orders_the_table_is_marked_as_well(tmp_path):
    write_run(tmp_path / "0", {"val/cosine": 0.9}, tables={"baselines": BASELINES})
    console = Console(width=80, record=True)
    print_table(console, run_table(read_runs([tmp_path]), goal("val/cosine")), goal("val/cosine"))
    text = console.export_text()
    assert "0.9 ≈" in text
    assert LEGEND in text


def test_the_words_of_a_heading_stand_below_each_other(tmp_path):
    write_run(tmp_path / "0", {"zero_shot/original_worst": 0.25})
    shown = terminal(run_table(read_runs([tmp_path]), FVU).narrow(FVU))
    assert [str(column.header) for column in shown.columns] == ["run", "FVU", "L0", "worst\ngroup"]


def test_a_name_cannot_break_out_of_markdown():
    text = markdown(["run"], [["a|b\n# c <script> [x](y) `z`"]])
    assert text.splitlines()[2] == r"| a\|b # c &lt;script> \[x](y) \`z\` |"


def test_the_best_and_the_front_are_of_the_finished(tmp_path):
    found = compare([sweep(tmp_path)], FVU, (goal("val/l0"), FVU))
    assert found.front == ["32", "16", "8"]
    assert [run.name for run, _ in found.bests()] == ["32", "16", "8"]
    assert found.bests()[0][1] == "best by val/fvu (0.1), on the front of val/l0 and val/fvu"
    assert [run.name for run in found.unfinished] == ["128"]
    other = compare([tmp_path], goal("val/l0:max"), (goal("val/l0"), FVU))
    assert [run.name for run, _ in other.bests()] == ["64", "32", "16", "8"]


def test_no_run_has_finished(tmp_path):
    (write_run(tmp_path / "0") / "latents.csv").unlink()
    found = compare([tmp_path], FVU, (goal("val/l0"), FVU))
    assert (found.front, found.bests(), found.variants) == ([], [], [])


def test_a_value_that_no_run_has_is_an_error(tmp_path):
    sweep(tmp_path)
    with pytest.raises(ValueError, match="no run has logged 'val/fuv'"):
        compare([tmp_path], goal("val/fuv:min"), (FVU, FVU))
    with pytest.raises(ValueError, match="no run has logged 'a'"):
        compare([tmp_path], FVU, (goal("a:min"), FVU))
    with pytest.raises(ValueError, match="has no 'sea' in its config"):
        compare([tmp_path], FVU, (FVU, FVU), by="sea")


def test_a_variant_is_stood_for_by_its_best_run(tmp_path):
    for name, clip, fvu in (("0", "a", 0.2), ("1", "b", 0.3), ("2", "a", 0.1), ("3", "b", 0.4)):
        write_run(tmp_path / name, {"val/fvu": fvu}, choices={"clip": clip})
    runs = read_runs([tmp_path])
    assert [(v.name, v.run.name, v.runs) for v in find_variants(runs, "clip", FVU)] == [
        ("a", "2", 2),
        ("b", "1", 2),
    ]
    worst = find_variants(runs, "clip", goal("val/fvu:max"))
    assert [v.run.name for v in worst] == ["0", "3"]
    assert len(find_variants(runs, "run", FVU)) == 4


def test_variants_of_one_file_are_told_apart_by_their_values(tmp_path):
    for name, model in (("0", "ViT-B-32"), ("1", "ViT-L-14")):
        write_run(tmp_path / name, config={"clip": {"model": model}}, overrides=[f"clip.model={model}"])
    names = [v.name for v in find_variants(read_runs([tmp_path]), "clip", FVU)]
    assert names == ["ViT-B-32", "ViT-L-14"]


def reliance(rows):
    columns = ["class", "images", "class_share", "latent", "label", "named", "share"]
    return pd.DataFrame(rows, columns=columns)


def driven(classes):
    return pd.DataFrame([{"class": name, "images": n, "latent": 0} for name, n in classes.items()])


def test_the_matrix_of_classes_and_variants(tmp_path):
    biased = [
        ("star", 50, 0.9, 1, "brown", True, 0.5),
        ("star", 50, 0.9, 2, "brown", True, 0.3),
        ("star", 50, 0.9, 3, "sky", False, 0.1),
    ]
    tables = {"reliance": reliance(biased), "attribution": driven({"star": 50, "moon": 30, "sun": 5})}
    write_run(tmp_path / "0", choices={"clip": "a"}, tables=tables)
    other = reliance([("moon", 30, 0.2, 1, "sea", True, 0.2)])
    write_run(
        tmp_path / "1", choices={"clip": "b"}, tables={"reliance": other, "attribution": driven({"star": 40})}
    )
    write_run(tmp_path / "2", choices={"clip": "c"})
    matrix = reliance_matrix(find_variants(read_runs([tmp_path]), "clip", FVU))
    assert list(matrix) == ["star", "moon", "sun"]
    star = matrix["star"]
    assert star[0].culprits == [
        CulpritShare(LatentName("brown", True), pytest.approx(0.8)),
        CulpritShare(LatentName("sky", False), 0.1),
    ]
    assert (star[0].share, star[0].images) == (0.9, 50)
    assert (star[1].share, star[1].images) == (0.0, 40)  # judged, and innocent
    assert math.isnan(star[2].share)  # the run has no such table
    assert (matrix["moon"][0].share, matrix["moon"][1].share) == (0.0, 0.2)
    assert math.isnan(matrix["sun"][0].share)  # five images are too few
    assert contrasts(matrix) == [("star", 0, 1)]
    assert contrasts(matrix, least=0.2) == [("star", 0, 1), ("moon", 1, 0)]
