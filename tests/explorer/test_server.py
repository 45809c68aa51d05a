"""The server of the explorer: what it answers, and whom it refuses."""

import html
import io
import socket

import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from lightning_sae.attribution.ablation import remove_shares
from lightning_sae.explain.explanation import explain
from lightning_sae.explorer.answers import KEPT, Answers
from lightning_sae.explorer.server import HOST, LARGEST, MARK, application, listen, new_token
from lightning_sae.runs.classifier import prompt_classifier
from lightning_sae.runs.folder import open_run

TOKEN = "abc"
ADDRESS = f"http://{HOST}/{TOKEN}"

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def app(driven_run):
    return application(driven_run, TOKEN)


@pytest.fixture
def client(app):
    return TestClient(app, base_url=ADDRESS, headers={MARK: "1"})


@pytest.fixture(scope="module")
def patches(small_patch_run):
    run = open_run(small_patch_run)
    run.data.prepare_data()
    run.data.setup("validate")
    return run


def png(colour="red"):
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_page_may_ask_its_server_and_nobody_else(client):
    text = client.get("").text
    assert "connect-src 'self'" in html.unescape(text)
    assert client.get("audit.html").status_code == 404


@pytest.mark.parametrize("path", ["image?image=0", ""])
def test_another_name_of_this_machine_is_refused(app, path):
    """To which somebody else's page can have given an address of this machine."""
    stranger = TestClient(app, base_url=f"http://rebound.example/{TOKEN}", headers={MARK: "1"})
    assert stranger.get(path).status_code == 400


def test_a_question_of_another_page_is_refused(app):
    stranger = TestClient(app, base_url=ADDRESS)
    for answer in (stranger.get("image?image=0"), stranger.post("upload", content=png())):
        assert answer.status_code == 403
    assert stranger.options("upload", headers={"Origin": "http://evil.example"}).status_code == 405


def test_who_does_not_know_the_address_sees_nothing(app):
    stranger = TestClient(app, base_url=f"http://{HOST}", headers={MARK: "1"})
    for path in ("/", "/image?image=0", "/audit.html", "/other/", "/other/image?image=0"):
        assert stranger.get(path).status_code == 404
    assert len({new_token() for _ in range(20)}) == 20


def test_an_image_of_the_run_is_what_the_library_says(client, driven_run):
    told = client.get("image?image=7").json()
    found = explain(driven_run, driven_run.data.images("val")[7], ["a photo of a star"], top=1)
    star = told["names"].index("star")
    assert told["logits"][star] == pytest.approx(found[0].score, abs=1e-3)
    assert told["target"] == int(driven_run.data.images("val").targets[7])
    assert told["names"][told["own"]] == driven_run.data.class_names[told["target"]]
    for latent, without in zip(told["latents"], told["without"], strict=True):
        question = {"image": "7", "prompts": [], "classes": told["classes"]}
        question |= {"latents": [latent["latent"]], "shares": [1.0]}
        assert client.post("remove", json=question).json()["logits"] == pytest.approx(without, abs=1e-4)


def test_removal_is_exact_in_the_middle_of_clip(patches):
    answers = Answers(patches)
    told = answers.describe("3")
    latents = [each["latent"] for each in told["latents"]][:3]
    one = answers._explained("3")
    expected = prompt_classifier(patches).logits(remove_shares(one, latents, [0.3, 1.0, 0.5]))
    found = answers.remove("3", [], latents, [0.3, 1.0, 0.5], told["classes"])
    assert found == pytest.approx(expected[0, told["classes"]].tolist(), abs=1e-5)
    dense = one.latents.to_dense()
    x_hat = one.x[0] - sum(
        share * dense[:, j, None] * one.W_dec[j] for j, share in zip(latents, [0.3, 1.0, 0.5], strict=True)
    )
    brute = prompt_classifier(patches).logits(one.tail(x_hat[None], one.context))
    torch.testing.assert_close(brute, expected, atol=1e-4, rtol=1e-4)


def test_an_image_and_prompts_of_a_user(client):
    name = client.post("upload", content=png()).json()["image"]
    told = client.get(f"image?image={name}&prompt=a%20red%20thing&prompt=a%20house").json()
    assert told["names"] == ["a red thing", "a house"]
    assert told["target"] == told["own"] == -1
    assert told["logits"][0] > told["logits"][1]
    assert told["picture"].startswith("data:image/webp;base64,")


def test_the_last_images_are_kept(driven_run):
    answers = Answers(driven_run)
    names = [answers.keep(png()) for _ in range(KEPT + 1)]
    assert len({*names}) == len(names)
    answers.describe(names[1])
    with pytest.raises(ValueError, match="no image own-1"):
        answers.describe(names[0])


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("image?image=1000", None, "no image 1000: a number in 0..299"),
        ("image?image=-1", None, "no image -1"),
        ("image?image=²", None, "no image"),
        ("image", None, "no image"),
        ("image?image=0&prompt=%20", None, "a prompt must hold words"),
        ("upload", b"no image", "the image"),
        ("upload", b"", "image"),
        ("remove", b"{}", "not a removal"),
        ("remove", b"\xff", "not a removal"),
        ("remove", b'{"image": "0", "latents": [99999], "shares": [1], "classes": [0]}', "0..63"),
        ("remove", b'{"image": "0", "latents": [1], "shares": [2], "classes": [0]}', "0..1"),
        ("remove", b'{"image": "0", "latents": [1], "shares": [NaN], "classes": [0]}', ""),
        ("remove", b'{"image": "0", "latents": [1], "shares": [], "classes": [0]}', "a share for each"),
        ("remove", b'{"image": "0", "latents": [1, 1], "shares": [1, 1], "classes": [0]}', "each once"),
        ("remove", b'{"image": "0", "latents": [1], "shares": [1], "classes": [-1]}', "a class is one of"),
    ],
)
def test_what_is_wrong_with_a_question_is_said(client, path, content, said):
    answer = client.get(path) if content is None else client.post(path, content=content)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_too_large_an_image_is_refused(client):
    answer = client.post("upload", content=bytes(LARGEST + 1))
    assert answer.status_code == 400
    assert "64 MiB" in answer.json()["error"]


def test_a_port_that_is_taken_is_said():
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"port {port} cannot be listened on .*--port N"):
            listen(port)
    with listen(0) as free:
        assert free.getsockname()[0] == HOST
