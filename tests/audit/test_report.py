"""The page of an audit: whole, by itself, and nothing that a user wrote can run in it."""

import base64
import gzip
import hashlib
import io
import json
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from lightning_sae.audit.report import write_report
from lightning_sae.audit.report.view import WORST, summary
from lightning_sae.browser.sheets import MOST, SIDE
from lightning_sae.report import plain

from .fabricated import (
    HOSTILE,
    audit,
    culprit,
    finding,
    group_gap,
    latent_table,
    noise_images,
    origin,
    result,
    run_folder,
)


class Page(HTMLParser):
    """Tags with their attributes, and the texts below each."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.text = path.read_text()
        self.tags, self.words, self._open = [], {}, "html"
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data):
        self.words.setdefault(self._open, []).append(data)

    def said(self):
        """All that is shown."""
        return " ".join(
            word for tag, words in self.words.items() if tag not in ("script", "style") for word in words
        )

    def data(self):
        """The columns of all latents."""
        (packed,) = re.findall(r'id="latent-data">([^<]*)</script>', self.text)
        return json.loads(gzip.decompress(base64.b64decode(packed)))


@pytest.fixture(scope="module")
def images():
    return noise_images(30)


@pytest.fixture
def write(tmp_path, images):
    """An audit -> its page, over a run with ten latents."""

    def write(
        found, labels=("brown background", "star"), classes=("star", "moon"), table=None, examples=images
    ):
        table = latent_table(10, labels, classes, len(examples)) if table is None else table
        return Page(write_report(found, run_folder(tmp_path / "run", table, classes, examples), tmp_path))

    return write


def one_finding(**changes):
    found = finding(1, "star", (culprit(3, "brown background"),), **changes)
    return audit((result("star", (1,)), result("moon")), (found,))


def test_the_page_says_what_the_audit_says(write):
    thin = result("dot", verdict="not enough evidence", images=3, accuracy=None, unexpected_share=None)
    found = one_finding()
    page = write(found.model_copy(update={"classes": (*found.classes, thin)}))
    said = page.said()
    for text in (
        "1 of 2 classes relies on something that nobody intended: 1 finding, 1 of high severity.",
        "1 class without enough evidence",
        "not judged",
        "“star” is driven by “brown background”",
        "24.0 % (21.0 to 27.0)",
        "other images with background=brown that are taken for it",
        "the balanced error of the class falls by +4.7 (+3.6 to +5.8) points",
        "−0.32",
        "random images p = 0.41",
        "its images p = 0.002",
        "+5.1 (+3.8 to +6.4)",
        "482 images",
        "10.1 %",
        "−9.6",
        "of those with the cue",
        "25.0 %",
        "background=gray",
        "word auroc",
        "Collect pictures of the class on other backgrounds.",
        "Training loss",
    ):
        assert text in said
    ids = [attributes.get("id") for _, attributes in page.tags]
    order = [ids.index(name) for name in ("summary", "classes", "findings", "finding-1", "latents", "curves")]
    assert order == sorted(order)


@pytest.mark.parametrize(("n", "more"), [(1, 0), (WORST, 0), (WORST + 1, 1), (WORST + 3, 3)])
def test_the_summary_names_the_worst_findings_and_counts_the_others(n, more):
    found = tuple(finding(i, "star", (culprit(i, "brown"),)) for i in range(1, n + 1))
    said = summary(audit((result("star", tuple(range(1, n + 1))),), found))
    assert [one["number"] for one in said["worst"]] == [*range(1, min(n, WORST) + 1)]
    assert said["more"] == more


def test_nothing_found_is_said_as_it_is(write):
    assert (
        "Nothing unintended was found in 2 classes." in write(audit((result("star"), result("moon")))).said()
    )


def test_what_cannot_be_told_is_neither_a_finding_nor_none(write):
    untold = result("moon", verdict="cannot be told", reason="collect <moons>", gaps=(group_gap("mark=yes"),))
    page = write(audit((result("star"), untold)))
    said = page.said()
    assert "Nothing unintended was found in 1 class." in said
    assert "1 class of which it cannot be told" in said
    assert "collect <moons>" in said
    assert "mark=yes: 25.0\N{NO-BREAK SPACE}% taken for it, elsewhere 1.0\N{NO-BREAK SPACE}%" in said
    said = write(audit((untold,))).said()
    assert "No class could be judged: these images do not show what drives them." in said
    assert "Nothing unintended" not in said


def test_the_wrong_predictions_and_the_top_images_of_a_culprit_are_both_shown(write):
    shown = culprit(3, "brown background", examples=(0, 1), top_images=(2, 3, 4))
    page = write(audit((result("star", (1,)),), (finding(1, "star", (shown,)),)))
    alts = [attributes.get("alt") for tag, attributes in page.tags if tag == "img"]
    assert alts.count("image on which latent 3 fires") == 2
    assert alts.count("top image of latent 3") == 3
    assert "its top images" in page.said()


def test_a_judge_that_judges_itself_is_told(write):
    assert "The judge is not independent." in write(audit((result("star"),), judge_independent=False)).said()
    assert "The judge is not independent." not in write(audit((result("star"),))).said()


def hostile_page(write):
    """Whatever a user may write, everywhere."""
    every = " ".join(HOSTILE)
    classes = (*HOSTILE, "star")
    found = tuple(
        finding(
            n,
            name,
            (culprit(n, name),),
            summary=every,
            advice=(every,),
            origins=(origin((culprit(n, name),), name, layer=name),),
            evidence=(finding(1, "", (culprit(1, ""),)).evidence[0].model_copy(update={"meaning": every}),),
        )
        for n, name in enumerate(HOSTILE, 1)
    )
    results = tuple(result(name, prompts=(name, *HOSTILE)) for name in classes)
    return write(audit(results, found, run=every, data=every, judge=every), HOSTILE, classes)


def test_nothing_that_a_user_wrote_becomes_a_tag_or_an_attribute(write):
    page = hostile_page(write)
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "latent-data"}, {"type": "module"}]
    for tag, attributes in page.tags:
        assert tag not in ("iframe", "link", "object", "embed", "base", "form")
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        assert tag != "img" or attributes["src"].startswith("data:image/webp;base64,")
        assert tag != "a" or re.fullmatch(r"#[a-z]+(-\d+)?", attributes["href"])
    for text in HOSTILE[:5]:
        assert page.said().count(plain(text)) > 5  # as it is
    assert "\u202e" not in page.text  # it would turn what stands beside it
    assert "window.ran" not in "".join(page.words["script"])
    assert page.data()["labels"] == [plain(text) for text in HOSTILE]


def test_the_policy_allows_this_script_and_this_style_alone(write):
    page = hostile_page(write)
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for name, pattern in (
        ("script-src", r'<script type="module">(.*?)</script>'),
        ("style-src", r"<style>(.*?)</style>"),
    ):
        (content,) = re.findall(pattern, page.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    assert rules["require-trusted-types-for"] == "'script'"


def test_nothing_is_fetched(write):
    text = re.sub(r'"data:image/[^"]+"|id="latent-data">[^<]+', "", write(one_finding()).text)
    forbidden = r"https?:|['(=]//|url\(|@import|javascript:|import\(|fetch\("
    assert not re.search(forbidden, text)


def test_the_script_never_makes_html_of_a_text(write):
    script = "".join(write(one_finding()).words["script"])
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|new Function", script)


def test_the_columns_are_those_of_the_run(write, images):
    table = latent_table(10, ("a", "b", ""), ("star", "moon"), len(images))
    table["clarity"] = ""  # as pandas reads what is missing
    data = write(one_finding(), table=table, examples=images).data()
    assert data["latent"] == list(range(10))
    assert [data["labels"][i] if i >= 0 else "" for i in data["label"]] == table["label"].tolist()
    unlabelled = (table["label"] == "").tolist()
    assert data["numbers"]["attribution"][:4] == [1.0, 0.5, 0.333, 0.25]
    assert data["numbers"]["clarity"] == [None] * 10
    assert data["named"] == [int(j % 2 == 0 and not unlabelled[j]) for j in range(10)]
    assert data["findings"] == {"3": [1]}
    assert data["drives"]["0"] == [[data["classes"].index(c), 1.8, 0.6] for c in ("star", "moon")]
    assert "margin" not in data["numbers"]


def test_a_picture_stands_once_on_the_sheets_at_its_place(write):
    colours = [Image.new("RGB", (80, 60), (8 * i, 255 - 8 * i, 128)) for i in range(30)]
    page = write(one_finding(), examples=colours)
    data = page.data()
    (source,) = [a["src"] for tag, a in page.tags if tag == "img" and a["alt"] == ""]
    sheet = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
    table = latent_table(10, ("a",), ("star",), 30)
    for latent in (0, 3, 9):
        for place, image_id in zip(
            data["examples"][str(latent)], table["top_images"][latent].split(), strict=True
        ):
            row, column = divmod(place, data["row"])
            red, _, _ = sheet.getpixel((column * SIDE + SIDE // 2, row * SIDE + SIDE // 2))
            assert abs(red - 8 * int(image_id)) < 6
    assert len({place for places in data["examples"].values() for place in places}) <= 30


def test_texts_are_written_down(write):
    texts = [f"caption {i} {HOSTILE[0]}" for i in range(30)]
    page = write(one_finding(), examples=texts)
    assert "caption 2 </script>" in page.said()
    data = page.data()
    wanted = [
        f"caption {i} {HOSTILE[0]}" for i in latent_table(10, ("a",), ("b",), 30)["top_images"][0].split()
    ]
    assert [data["texts"][place] for place in data["examples"]["0"]] == wanted
    assert not [tag for tag, _ in page.tags if tag == "img"]


def test_a_latent_that_is_not_named_is_a_grey_guess(write):
    guess, name = culprit(3, "ferret", named=False), culprit(4, "brown background")
    many = tuple(culprit(10 + j, "basil", named=False) for j in range(4))  # two of them without pictures
    found = finding(1, "star", (guess, name, *many), summary="")
    table = latent_table(10, ("otter",), ("star",), 30)
    text = write(audit((result("star", (1,)),), (found,)), table=table).text
    assert '#latent-3"><bdi>?</bdi> <bdi class="guess">ferret</bdi></a>' in text
    assert '#latent-4"><bdi>brown background</bdi></a>' in text
    assert '#latent-13"><bdi>?</bdi> <bdi class="guess">basil</bdi></a>' in text  # one of "4 more"
    assert "<bdi>otter</bdi> <small>60 %" in text  # what drives the class most: named, not, named
    assert '<bdi>?</bdi> <bdi class="guess">otter</bdi> <small>30 %' in text
    for word in ("ferret", "basil"):
        assert text.count(word) == text.count(f'<bdi class="guess">{word}</bdi>')


def test_attributions_to_other_prompts_are_not_shown_as_the_classifier_s(write):
    found = one_finding().model_copy(
        update={"classes": (result("star", (1,), prompts=("STAR",)), result("moon"))}
    )
    page = write(found)
    assert page.data()["drives"] == {}
    assert "driven most by" not in page.said()
    assert "not to the audited classifier" in page.said()


def test_a_run_with_few_columns_will_do(write, tmp_path):
    table = latent_table(10, ("a",), ("star",), 30)[["density"]]
    page = write(audit((result("star"),)), table=table)
    assert page.data()["examples"] == {}
    assert page.data()["named"] == [0] * 10
    (tmp_path / "run" / "metrics.csv").unlink()
    (tmp_path / "run" / "attribution.csv").unlink()
    bare = run_folder(tmp_path / "run", table, ("star",), [])
    for name in ("metrics.csv", "attribution.csv"):
        (bare.folder / name).unlink()
    assert "Training loss" not in Page(write_report(audit((result("star"),)), bare, tmp_path)).said()


def test_thirty_thousand_latents_of_noise_stay_below_twenty_megabytes(tmp_path):
    images = noise_images(5000)
    labels = tuple(f"label {i} of some length" for i in range(3000))
    table = latent_table(30_000, labels, tuple(f"class {i}" for i in range(100)), 5000)
    run = run_folder(tmp_path / "run", table, ("star", "moon"), images)
    culprits = (culprit(29_999, "last", (1, 2, 3, 4, 5)),)
    found = tuple(finding(n, "star", culprits) for n in range(1, 121))
    path = write_report(audit((result("star", tuple(range(1, 121))),), found), run, tmp_path)
    assert path.stat().st_size < 20e6
    page = Page(path)
    examples = page.data()["examples"]
    assert page.said().count("latent 29999") >= 120
    assert len([a for _, a in page.tags if a.get("alt") == "image on which latent 29999 fires"]) == 400
    assert len([tag for tag, a in page.tags if tag == "img" and a["alt"] == ""]) == MOST // 256  # sheets
    assert {"29999", "0", "3"} <= set(examples)  # a culprit, and what drives a class unexpectedly
    assert max(place for places in examples.values() for place in places) < MOST
    assert f"examples are here for {len(examples)} of them" in page.said()


def test_the_file_is_there_whole_or_not_at_all(write, tmp_path):
    write(one_finding())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit.html", "run"]
