"""Run folders read from their files; what is not whole is said."""

import os

import pandas as pd
import pytest

from lightning_sae.compare.__main__ import main
from lightning_sae.compare.differences import differing
from lightning_sae.compare.runs import read_runs

from .conftest import write_run


def test_the_last_values_of_all_runs_below_a_folder(tmp_path):
    for number in (10, 9, 2):
        write_run(tmp_path / "sweep" / str(number), {"val/fvu": number / 100}, overrides=[f"sae.k={number}"])
    runs = read_runs([tmp_path, tmp_path / "sweep" / "9"])  # twice is once
    assert [run.name for run in runs] == ["2", "9", "10"]
    assert [run.metrics["val/fvu"] for run in runs] == [0.02, 0.09, 0.1]
    assert runs[0].metrics["train/loss"] == 0.5
    assert (runs[0].metrics["step"], runs[0].overrides) == (99, ["sae.k=2"])
    assert all(run.finished for run in runs)
    assert runs[0].recipe["clip"] == "a"
    assert runs[0].recipe["clip.model"] == "M"
    assert "hydra/launcher" not in runs[0].recipe
    assert runs[0].card["provenance"]["clip"]["model"] == "M"


def test_a_label_is_a_text_whatever_it_looks_like(tmp_path):
    latents = pd.DataFrame({"latent": [0, 1, 2], "label": ["NA", "7", ""], "top_images": ["5", "3", "1"]})
    (run,) = read_runs([write_run(tmp_path / "run", tables={"latents": latents})])
    assert run.table("latents")["label"].tolist() == ["NA", "7", ""]
    assert run.table("latents")["top_images"].tolist() == ["5", "3", "1"]


def damage(folder, name, content):
    (folder / name).write_text(content)


@pytest.mark.parametrize(
    ("hurt", "missing"),
    [
        (lambda run: (run / "metrics.csv").unlink(), "metrics.csv"),
        (lambda run: (run / "latents.csv").unlink(), "latents.csv"),
        (
            lambda run: (run / "sae" / "cfg.json").unlink(),
            "sae/cfg.json: training did not end, last seen at step 100 of 100",
        ),
        (lambda run: damage(run, "sae/cfg.json", "{"), "sae/cfg.json cannot be read"),
        (lambda run: damage(run, "metrics.csv", ""), "metrics.csv cannot be read"),
        (lambda run: damage(run, "latents.csv", 'a,b\n"1'), "latents.csv cannot be read"),
        (
            lambda run: damage(run, "latents.csv", "label\na\n"),
            "latents.csv cannot be read (it has no",
        ),
        (
            lambda run: damage(run, "latents.csv", "latent\n0\n0\n"),
            "latents.csv cannot be read (latent 0",
        ),
        (
            lambda run: damage(run, "attribution.csv", "images\n3\n"),
            "attribution.csv cannot be read (it",
        ),
        (
            lambda run: damage(run, "faithfulness.csv", "method\na\n"),
            "faithfulness.csv cannot be read (i",
        ),
        (
            lambda run: damage(run, "reliance.csv", "class,share,class_share,images\na,x,1,1\n"),
            "reliance.csv cannot be read (the column share holds other things than numbers",
        ),
        (
            lambda run: damage(run, "attribution.csv", "class,images\na,\n"),
            "attribution.csv cannot be read (the column images holds other things than whole numbers",
        ),
        (
            lambda run: damage(run, "sae/cfg.json", '{"provenance": 6}'),
            "sae/cfg.json cannot be read (its",
        ),
        (lambda run: damage(run, "metrics.csv", "step,train/loss\n3,0.1\n"), "a validation pass"),
        (lambda run: damage(run, ".hydra/config.yaml", "a: [1"), ".hydra/config.yaml cannot be read"),
        (lambda run: damage(run, ".hydra/config.yaml", "[1, 2]"), ".hydra/config.yaml cannot be read"),
    ],
)
def test_what_is_missing_or_damaged_is_named(tmp_path, hurt, missing):
    good, bad = write_run(tmp_path / "good"), write_run(tmp_path / "bad")
    hurt(bad)
    found = {run.name: run for run in read_runs([tmp_path])}
    assert found["good"].finished
    assert not found["bad"].finished
    assert any(text.startswith(missing) for text in found["bad"].missing), found["bad"].missing
    assert good.is_dir()


def test_bytes_of_a_config_and_of_a_folder_are_shown(tmp_path):
    root = tmp_path / os.fsdecode(b"runs \xe9")
    for name, pair in (("a", "YQ=="), ("b", "Yg==")):
        run = write_run(root / name).rename(root / os.fsdecode(b"\xff" + name.encode()))
        damage(run, ".hydra/config.yaml", f"pair: !!binary {pair}")
    for by in ("pair", "run"):
        main([str(root), "--by", by, "--out", str(tmp_path / "out")])
    table = pd.read_csv(tmp_path / "out" / "compare.csv")
    assert table["run"].tolist() == [r"\udcffa", r"\udcffb"]
    assert table["pair"].tolist() == ["\"b'a'\"", "\"b'b'\""]
    assert table["folder"][0].endswith(r"runs \udce9/\udcffa")


def test_jobs_that_never_started_are_there(tmp_path):
    write_run(tmp_path / "0")
    (tmp_path / "1").mkdir()
    (tmp_path / "compare").mkdir()
    (tmp_path / "multirun.yaml").write_text("hydra: {}\n")
    runs = read_runs([tmp_path])
    assert [run.name for run in runs] == ["0", "1"]
    assert "never started" in runs[1].missing[0]


def test_what_a_config_leaves_out_is_not_missing(tmp_path):
    run = write_run(tmp_path / "run", config={"callbacks": {"save_sae": None, "latent_table": None}})
    (run / "latents.csv").unlink()
    (run / "sae" / "cfg.json").unlink()
    validated = write_run(tmp_path / "validated", config={"task": "validate"})
    (validated / "sae" / "cfg.json").unlink()
    assert all(run.finished for run in read_runs([tmp_path]))


def test_no_folder_and_no_run_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        read_runs([tmp_path / "nowhere"])
    with pytest.raises(FileNotFoundError, match="no run in or below"):
        read_runs([tmp_path])


def test_only_what_differs_and_is_no_clutter(tmp_path):
    write_run(tmp_path / "0", config={"sae": {"k": 8}, "logger": {"csv": {"save_dir": "x"}}})
    write_run(tmp_path / "1", config={"sae": {"k": 16, "_target_": "Other"}, "run_dir": "elsewhere"})
    assert differing(read_runs([tmp_path])) == ["sae.k"]


def test_what_comes_with_a_choice_is_said_by_its_name(tmp_path):
    one = {"clip": {"model": "A", "precision": "fp32"}, "sae": {"l1": 0.1}}
    two = {"clip": {"model": "B", "precision": "fp32"}, "sae": {"k": 32}}
    write_run(tmp_path / "0", config=one, choices={"clip": "a", "sae": "relu"})
    write_run(tmp_path / "1", config=two, choices={"clip": "b", "sae": "topk"}, overrides=["sae.k=32"])
    assert set(differing(read_runs([tmp_path]))) == {"clip", "sae", "sae.k"}
    precise = {"clip": {"model": "A", "precision": "bf16"}, "sae": {"l1": 0.1}}
    write_run(tmp_path / "2", config=precise, choices={"clip": "a", "sae": "relu"})
    assert set(differing(read_runs([tmp_path]))) == {"clip", "clip.precision", "sae", "sae.k"}
