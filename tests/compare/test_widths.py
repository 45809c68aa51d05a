"""Runs of several widths, made by hand: whose latents are children of whose."""

import numpy as np
import pandas as pd
import pytest
import torch

from lightning_sae.compare.__main__ import main as compare
from lightning_sae.compare.runs import read_runs
from lightning_sae.compare.widths import compare_widths, link_runs
from lightning_sae.runs.image_latents import save_image_latents
from lightning_sae.sae import TopK, save_sae
from lightning_sae.types import SparseLatents

from .conftest import write_run

D_IN, N = 30, 600
IMAGES = np.arange(N)
BIRD, FISH = IMAGES % 3 == 0, IMAGES % 3 == 1
LABELS = ["bird", "<b>fish</b>", "penguin", "raven bird", "trout"]
CONCEPTS = [BIRD, FISH, BIRD & (IMAGES < 300), BIRD & (IMAGES >= 300), FISH & (IMAGES < 200)]
CLIP = {"clip": {"model": "M", "pretrained": "p", "weights": "w"}, "hook_point": "h", "tokens": "cls"}


@pytest.fixture
def write_width(tmp_path):
    """A run with a latent for each of its concepts."""

    def write(name, concepts, images="A", **provenance):
        names = pd.DataFrame({"latent": range(len(concepts)), "density": 0.1, "named": True})
        names["label"] = [LABELS[c] for c in concepts]
        firing = np.stack([CONCEPTS[c] for c in concepts], 1).astype(np.float32)
        folder = tmp_path / "runs" / name
        width = {"sae": {"d_sae": len(concepts)}}
        write_run(folder, config=width, tables={"latents": names})
        sae = TopK(d_in=D_IN, d_sae=len(concepts), k=1)
        with torch.no_grad():
            sae.W_dec.copy_(torch.eye(D_IN)[concepts])
        save_sae(sae, folder / "sae", CLIP | provenance)
        save_image_latents(
            folder, SparseLatents.from_dense(torch.from_numpy(firing)), torch.arange(N), {"name": images}
        )
        return folder

    return write


def runs_of(tmp_path):
    return read_runs([tmp_path / "runs"])


def test_children_of_a_narrower_run(write_width, tmp_path):
    write_width("narrow", [0, 1])
    write_width("wide", [4, 3, 2])
    found = link_runs(runs_of(tmp_path)[::-1])
    assert [run.name for run in found.runs] == ["narrow", "wide"]
    assert found.compared == [2, 3]
    columns = ["run", "label", "parent_run", "parent_label", "by", "by_label"]
    assert found.table[columns].to_numpy().tolist() == [
        ["wide", "trout", "narrow", "<b>fish</b>", "firing", False],
        ["wide", "raven bird", "narrow", "bird", "firing", True],
        ["wide", "penguin", "narrow", "bird", "firing", False],
    ]


def test_the_same_latent_in_a_wider_run_is_no_child(write_width, tmp_path):
    write_width("narrow", [0, 1])
    write_width("wide", [0, 1, 2])
    assert link_runs(runs_of(tmp_path)).table["label"].tolist() == ["penguin"]


def test_runs_that_cannot_be_linked_are_refused(write_width, tmp_path):
    write_width("a", [0, 1])
    with pytest.raises(ValueError, match="name two runs at least, got 1"):
        link_runs(runs_of(tmp_path))
    write_width("b", [2, 3])
    with pytest.raises(ValueError, match="a and b both have 2 latents"):
        link_runs(runs_of(tmp_path))
    others = {
        "CLIP": {"clip": CLIP["clip"] | {"weights": "other"}},
        "hook point": {"hook_point": "i"},
        "tokens": {"tokens": "patch"},
    }
    for word, provenance in others.items():
        write_width(word, [0, 1, 2], **provenance)
        runs = {run.name: run for run in runs_of(tmp_path)}
        with pytest.raises(ValueError, match=f"a and {word} are not of the same {word}"):
            link_runs([runs["a"], runs[word]])
    write_width("c", [0, 1, 2], images="B")
    runs = {run.name: run for run in runs_of(tmp_path)}
    with pytest.raises(ValueError, match="a and c were validated on different images"):
        link_runs([runs["a"], runs["c"]])
    (runs["a"].folder / "image_latents.safetensors").unlink()
    assert "widths cannot be compared" in compare_widths([runs["a"], runs["c"]]).problems[0]


def test_compare_shows_the_families(write_width, tmp_path, capsys):
    write_width("narrow", [0, 1])
    write_width("wide", [4, 3, 2])
    compare([str(tmp_path / "runs"), "--by", "run"])
    assert "3 of 3 latents of wide have a parent" in " ".join(capsys.readouterr().out.split())
    folder = tmp_path / "runs" / "compare"
    assert pd.read_csv(folder / "hierarchy.csv")["parent_label"].tolist() == ["<b>fish</b>", "bird", "bird"]
    page = (folder / "compare.html").read_text()
    assert 'id="widths"' in page
    assert "&lt;b&gt;fish" in page
    assert "<b>fish" not in page


def test_runs_of_one_width_have_no_such_part(write_width, tmp_path):
    write_width("one", [0, 1])
    compare([str(tmp_path / "runs"), "--by", "run"])
    assert not (tmp_path / "runs" / "compare" / "hierarchy.csv").exists()
    assert 'id="widths"' not in (tmp_path / "runs" / "compare" / "compare.html").read_text()
