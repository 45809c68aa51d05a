"""Runs of one recipe, from their folders alone; what is not of one recipe is refused."""

import shutil

import pandas as pd
import pytest

from lightning_sae.audit.findings import read_audit
from lightning_sae.audit.seeds import read_other_seeds
from lightning_sae.compare.__main__ import main as compare
from lightning_sae.compare.runs import read_runs
from lightning_sae.stability import compare_seed_folders
from lightning_sae.stability.seeds import by_recipe


def test_what_recurs_of_three_seeds(write_seed, tmp_path):
    """Concepts 0 and 1 are in all, 2 in two, the others in one; two thirds of the attribution are on 0."""
    for seed, last in enumerate([[2, 3], [2, 4], [5, 6]]):
        write_seed(seed, [0, 1, *last], masses=[6.0, 1.0, 1.0, 1.0])
    found = compare_seed_folders([tmp_path / "runs"])
    assert found.latents["recurs"].tolist() == [1, 1, 0.5, 0, 1, 1, 0.5, 0, 1, 1, 0, 0]
    assert found.latents["label"].tolist()[:3] == ["concept 0", "concept 1", "concept 2"]
    assert found.shares["latents"].value == pytest.approx((3 + 2 + 2) / 3 / 4)
    assert found.shares["attribution"].value == pytest.approx((8 + 7 + 7) / 3 / 9)
    assert found.shares["reconstruction"].value == pytest.approx(found.shares["latents"].value)
    assert found.shares["latents"].low < found.shares["latents"].value < found.shares["latents"].high
    assert found.matches == {
        (0, 1): {(0, 0), (1, 1), (2, 2)},
        (0, 2): {(0, 0), (1, 1)},
        (1, 2): {(0, 0), (1, 1)},
    }
    assert found.images == 400


def test_runs_of_a_recipe_are_told_from_others(write_seed, tmp_path):
    for seed in range(4):
        write_seed(seed, [0, 1], config={"sae": {"k": 4 + 4 * (seed % 2)}})
    runs = read_runs([tmp_path / "runs"])
    assert [[run.name for run in group] for group in by_recipe(runs)] == [["0", "2"], ["1", "3"]]
    with pytest.raises(ValueError, match=r"0 and 1 are of different recipes \(sae.k: 4 and 8\)"):
        compare_seed_folders([tmp_path / "runs"])


def test_runs_that_cannot_be_compared_are_refused(write_seed, tmp_path):
    first = write_seed(0, [0, 1])
    with pytest.raises(ValueError, match=r"two finished runs at least, got 1: .* experiment=stability"):
        compare_seed_folders([first])
    shutil.copytree(first, tmp_path / "again" / "0")
    with pytest.raises(ValueError, match="are the same training, seed=0"):
        compare_seed_folders([first, tmp_path / "again"])
    other = write_seed(1, [0, 1], images="B")
    with pytest.raises(ValueError, match="0 and 1 were validated on different images"):
        compare_seed_folders([first, other])
    (other / "sae" / "sae.safetensors").write_bytes(b"\x08")
    with pytest.raises(ValueError, match="damaged"):
        compare_seed_folders([first, other])


def test_a_finding_is_counted_where_class_kind_and_a_culprit_are_the_same(
    write_seed, write_findings, tmp_path
):
    """Culprits match by concept: latent 0 is concept 0 in the first two runs, latent 1 in the third."""
    folders = [write_seed(seed, concepts) for seed, concepts in enumerate([[0, 1, 2], [0, 3, 2], [5, 0, 4]])]
    write_findings(
        folders[0], ("star", "spurious", [0, 1]), ("bolt", "spurious", [0]), ("gear", "spurious", [1])
    )
    write_findings(folders[1], ("star", "spurious", [0]), ("bolt", "compound", [0]))
    write_findings(folders[2], ("star", "spurious", [1]), ("gear", "spurious", [1]))
    others = read_other_seeds(folders[0], [tmp_path / "runs"])
    found = others.count_seeds(read_audit(folders[0]))
    assert found.seeds == 3
    assert [finding.in_seeds for finding in found.findings] == [3, 1, 1]
    assert [f.number for f in found.at_least("high", in_seeds=3)] == [1]
    assert [found.said_of_seeds(f) for f in found.findings] == [
        "3 of 3 seeds",
        "1 of 3 seeds",
        "1 of 3 seeds",
    ]
    alone = read_other_seeds(folders[0], folders[1:2])
    assert [f.in_seeds for f in alone.count_seeds(read_audit(folders[0])).findings] == [2, 1, 1]


def test_audits_of_something_else_are_refused(write_seed, write_findings, tmp_path):
    folders = [write_seed(seed, [0, 1]) for seed in range(2)]
    with pytest.raises(FileNotFoundError, match=r"1 has no audit.json: `lightning-sae audit"):
        read_other_seeds(folders[0], [tmp_path / "runs"])
    write_findings(folders[0])
    write_findings(folders[1], classifier="probe")
    others = read_other_seeds(folders[0], [tmp_path / "runs"])
    with pytest.raises(ValueError, match="the audits of 0 and 1 differ in classifier prompts and probe"):
        others.count_seeds(read_audit(folders[0]))
    write_findings(folders[1], sae_sha256="other")
    with pytest.raises(ValueError, match="is of another autoencoder than that of the run"):
        read_other_seeds(folders[0], [tmp_path / "runs"])
    (folders[0] / "latents.csv").unlink()
    with pytest.raises(ValueError, match=r"0 is not finished .*latents.csv"):
        read_other_seeds(folders[0], [tmp_path / "runs"])


def test_compare_shows_the_seeds(write_seed, write_findings, tmp_path, capsys):
    folders = [write_seed(seed, [0, 1, *last]) for seed, last in enumerate([[2, 3], [2, 4], [5, 6]])]
    for folder in folders:
        write_findings(folder, ("<star>", "spurious", [0]))
    compare([str(tmp_path / "runs"), "--by", "run"])
    said = " ".join(capsys.readouterr().out.split())
    assert "Of 3 seeds, in any other one recur 58 % (" in said
    assert "3 of 3 seeds spurious: <star>" in said
    table = pd.read_csv(tmp_path / "runs" / "compare" / "recurrence.csv")
    assert table["recurs"].tolist() == [1, 1, 0.5, 0, 1, 1, 0.5, 0, 1, 1, 0, 0]
    assert {"run", "latent", "label", "recurs", "cosine", "correlation"} <= {*table}
    page = (tmp_path / "runs" / "compare" / "compare.html").read_text()
    assert 'id="seeds"' in page
    assert "3 of 3 seeds" in page
    assert "&lt;star&gt;" in page
    assert "2 of 2: <b>6</b>" in page


def test_compare_says_why_seeds_or_findings_are_not_shown(write_seed, tmp_path, capsys):
    first, _ = write_seed(0, [0, 1]), write_seed(1, [0, 1])
    compare([str(tmp_path / "runs"), "--by", "run"])
    assert "findings cannot be compared: " in capsys.readouterr().out
    (first / "image_latents.safetensors").unlink()
    compare([str(tmp_path / "runs"), "--by", "run"])
    assert "seeds cannot be compared: " in capsys.readouterr().out
    assert "seeds cannot be compared: " in (tmp_path / "runs" / "compare" / "compare.html").read_text()
