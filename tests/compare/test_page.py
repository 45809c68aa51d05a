"""The files of a comparison: whole, by themselves, and nothing in them runs."""

import base64
import hashlib
import io
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from PIL import Image

from lightning_sae.compare.__main__ import main
from lightning_sae.report import picture_uri

from .conftest import write_run

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> $x_1$ [red]"


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


def variants(folder, write_picture):
    """Two variants whose labels, classes and values are hostile."""
    generator = np.random.default_rng(0)
    latents = ((generator.random((100, 6)) < 0.3) * generator.random((100, 6))).astype(np.float32)
    columns = {"latent": range(6), "density": 0.3, "label": EVIL, "named": True, "alignment": 0.1}
    columns |= {"unexpected": 1.0, "unexpected_class": EVIL, "attribution_class": EVIL}
    share = {"class": [EVIL], "images": 50, "class_share": 0.9, "latent": 1, "label": EVIL, "share": 0.9}
    areas = {f"{kind}{end}": 0.5 for kind in ("deletion", "insertion") for end in ("", "_low", "_high")}
    tables = {
        "latents": pd.DataFrame(columns),
        "reliance": pd.DataFrame(share),
        "faithfulness": pd.DataFrame([{"method": EVIL, **areas}]),
    }
    for name in "ab":
        choices = {"clip": f"{name}{EVIL}"}
        fvu = {"val/fvu": 0.1 if name == "a" else 0.2}
        run = write_run(folder / name, fvu, choices=choices, overrides=[EVIL], tables=tables, latents=latents)
        write_picture(run)
    (write_run(folder / "c <i>", choices={"clip": EVIL}) / "latents.csv").unlink()
    return folder


@pytest.fixture
def out(tmp_path, write_picture, capsys):
    main([str(variants(tmp_path / "runs", write_picture)), "--out", str(tmp_path / "out")])
    return tmp_path / "out"


def test_one_script_runs_and_nothing_is_fetched(out):
    text = (out / "compare.html").read_text()
    page = Page(text)
    names = [tag for tag, _ in page.tags]
    assert not {*names} & {"iframe", "link", "object", "embed", "base", "form"}
    ids = {a.get("id") for _, a in page.tags}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        assert tag != "img" or attributes["src"].startswith("data:image/")
        assert tag != "a" or attributes["href"].removeprefix("#") in ids
    plain = re.sub(r'"data:image/[^"]+"|"http://www.w3.org/2000/svg"', '""', text)
    assert not re.search(r"https?:|url\(|@import|javascript:|innerHTML|eval\(", plain)
    assert names.count("script") == names.count("style") == 1
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    for tag in ("script", "style"):
        inside = re.search(rf"<{tag}[^>]*>(.*?)</{tag}>", text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def parts(folder):
    tags = Page((folder / "compare.html").read_text()).tags
    return [a["id"] for tag, a in tags if tag == "section" and "id" in a]


def test_what_varies_comes_first(tmp_path):
    """Runs of one CLIP, or CLIPs; also in the table, and in Markdown."""
    for job, (clip, k) in enumerate([("a", 8), ("a", 16), ("b", 8)]):
        write_run(tmp_path / str(job), {}, {"sae": {"k": k}}, choices={"clip": clip})
    main([str(tmp_path / "0"), str(tmp_path / "1"), "--out", str(tmp_path / "of_one")])
    main([str(tmp_path), "--out", str(tmp_path / "of_two")])
    assert parts(tmp_path / "of_one") == ["runs", "pictures", "variants", "configs"]
    assert parts(tmp_path / "of_two") == ["variants", "concepts", "runs", "pictures", "configs"]
    heads = [pd.read_csv(tmp_path / name / "compare.csv").columns[2] for name in ("of_one", "of_two")]
    assert heads == ["sae.k", "clip"]


def test_numbers_behind_the_cells_are_whole(tmp_path):
    write_run(tmp_path / "0", {"val/fvu": 0.123456789}, {"sae": {"k": 8}})
    write_run(tmp_path / "1", {"val/fvu": 0.2, "alignment/mean": 0.1})
    main([str(tmp_path)])
    tags = Page((tmp_path / "compare" / "compare.html").read_text()).tags
    cells = [a for _, a in tags if "data-value" in a]
    assert [cell["data-value"] for cell in cells] == ["0.123456789", "16.0", "", "0.2", "16.0", "0.1"]


def test_what_a_user_wrote_is_shown_as_it_is(out):
    words = " ".join(Page((out / "compare.html").read_text()).words)
    assert words.count("<script>alert(1)</script>") > 10
    assert "c <i>" in words
    assert "<script" not in (out / "compare.md").read_text()


def test_a_latent_that_is_not_named_is_a_grey_guess(tmp_path):
    """Two runs share a latent, two are of each alone; `otter` is a name, `ferret` and `newt` are not."""
    generator = np.random.default_rng(0)
    shared, *own = (generator.random((100, n)) < 0.3 for n in (1, 2, 2))
    share = {"class": "star", "images": 50, "share": [0.6, 0.4]}
    for name, class_share, rest in zip("01", (0.9, 0.2), own, strict=True):
        labels, named = ["ferret", "otter", "newt"], [False, True, False]
        columns = {"latent": range(3), "density": 0.3, "label": labels, "named": named}
        reliance = {**share, "class_share": class_share, "label": labels[:2], "named": named[:2]}
        tables = {"latents": pd.DataFrame(columns), "reliance": pd.DataFrame(reliance)}
        latents = np.hstack([shared, rest]).astype(np.float32)
        write_run(tmp_path / name, choices={"clip": name}, tables=tables, latents=latents)
    main([str(tmp_path)])
    text = (tmp_path / "compare" / "compare.html").read_text()
    assert "<bdi>otter</bdi>" in text
    for word in ("ferret", "newt"):
        assert text.count(word) == text.count(f'<bdi>?</bdi> <bdi class="guess">{word}</bdi>') > 1
    assert "? (ferret) (60 %) otter (40 %)" in (tmp_path / "compare" / "compare.md").read_text()


def test_clips_of_one_name_are_told_apart_by_their_weights(tmp_path):
    for name in "ab":
        write_run(tmp_path / name, choices={"clip": name})
    main([str(tmp_path)])
    text = (tmp_path / "compare" / "compare.html").read_text()
    for name in "ab":
        assert f"M p {hashlib.sha256(name.encode()).hexdigest()[:8]}</p>" in text


def test_all_files_are_there_and_say_the_same(out):
    names = "compare.csv compare.md best.yaml pareto.png parallel.png alignment.png concepts.csv compare.html"
    assert {path.name for path in out.iterdir()} == set(names.split())  # and nothing half written
    table = pd.read_csv(out / "compare.csv", index_col="run")
    assert table["val/fvu"].tolist() == [0.1, 0.2, 0.1]
    assert table["finished"].tolist() == [True, True, False]
    best = OmegaConf.load(out / "best.yaml")
    assert list(best) == ["a"]  # in both goals
    assert (best.a.config.sae.k, best.a.overrides) == (16, [EVIL])
    assert OmegaConf.to_container(best.a.config)["run_dir"] == "${hydra:runtime.output_dir}"
    assert len(pd.read_csv(out / "concepts.csv")) == 12


def test_pictures_are_inside_and_whole(out):
    sources = [a["src"] for tag, a in Page((out / "compare.html").read_text()).tags if tag == "img"]
    assert len(sources) == 4  # two of all runs, a gallery of each variant; the third the script draws
    for source in sources:
        content = base64.b64decode(source.partition(",")[2])
        Image.open(io.BytesIO(content)).verify()


def test_the_last_line_says_what_was_found_and_where(tmp_path, write_picture, capsys):
    runs = variants(tmp_path / "runs", write_picture)
    main([str(runs), "--sort", "val/l0", "--by", "run"])
    said = capsys.readouterr().out
    last = said.strip().splitlines()[-1]
    assert last.startswith("2 of 3 runs finished, 2 variants; compare.csv, ")
    assert last.endswith(str(runs / "compare"))
    assert "unfinished: c <i>: missing latents.csv" in said
    main([str(runs)])  # its own output is no run
    assert "2 of 3 runs finished" in capsys.readouterr().out


def test_one_run_is_enough(tmp_path, capsys):
    main([str(write_run(tmp_path / "run"))])
    assert {path.name for path in (tmp_path / "compare").iterdir()} == {
        "compare.csv",
        "compare.md",
        "best.yaml",
        "compare.html",
    }


def test_runs_that_all_failed_are_listed(tmp_path, capsys):
    for name in "ab":
        (write_run(tmp_path / name) / "metrics.csv").unlink()
    main([str(tmp_path)])
    said = capsys.readouterr().out
    assert said.count("missing metrics.csv") == 2
    assert "0 of 2 runs finished, 0 variants" in said
    assert "2 of 2 runs did not finish" in (tmp_path / "compare" / "compare.html").read_text()


def test_a_bad_word_ends_in_one_message(tmp_path):
    write_run(tmp_path / "run")
    for arguments, message in (
        ([str(tmp_path / "nowhere")], "there is no folder"),
        ([str(tmp_path), "--sort", "x"], "Write x:min or x:max"),
        ([str(tmp_path), "--by", "x"], "group by another key, or by run"),
    ):
        with pytest.raises(SystemExit, match=message):
            main(arguments)
    assert not (tmp_path / "compare").exists()


def test_a_picture_that_cannot_be_read_is_left_out(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nxx")
    assert picture_uri(tmp_path / "a.png") == picture_uri(tmp_path / "b.png") == ""
