"""`explain --set`, end to end on a tiny run, against the whole model."""

import pytest
import torch
from PIL import Image

from lightning_sae.clip import splice
from lightning_sae.explain.__main__ import main
from lightning_sae.explain.steered import steer_image
from lightning_sae.runs.folder import open_run
from lightning_sae.steering.intervention import Scale
from lightning_sae.world import World

PROMPTS = ["a photo of a star", "a photo of a heart"]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "steered.png"
    World("biased", "test", 10).image(3).save(path)
    return path


@pytest.fixture(params=["small_run", "small_patch_run"])
def run(request):
    return open_run(request.getfixturevalue(request.param))


def active_latents(run, picture):
    clip, kept = run.data.clip, []
    with torch.no_grad(), splice(clip, run.data.hook, lambda x: kept.append(x) or x, error_term=False):
        clip.encode_image(clip.preprocess(picture)[None])
    return run.sae.encode(kept[0].flatten(0, 1)).fired().nonzero().flatten().tolist()


def test_scores_are_those_of_the_edited_model(run, image):
    with Image.open(image) as opened:
        picture = opened.convert("RGB")
    first, second = active_latents(run, picture)[:2]
    clip, sae = run.data.clip, run.sae
    texts = clip.encode_text(PROMPTS)

    def edit(x):
        a = sae.encode(x.flatten(0, 1)).to_dense()
        new = (
            x.flatten(0, 1)
            + (4.0 - a[:, [first]]) * sae.W_dec[first]
            - 2 * a[:, [second]] * sae.W_dec[second]
        )
        return new.view_as(x)

    with torch.no_grad():
        plain = clip.encode_image(clip.preprocess(picture)[None])[0]
        with splice(clip, run.data.hook, edit, error_term=False):
            steered = clip.encode_image(clip.preprocess(picture)[None])[0]
    found = steer_image(run, picture, {first: 4.0, second: Scale(-1.0)}, PROMPTS)
    scale = clip.logit_scale
    assert found.scores["before"].tolist() == pytest.approx((scale * texts @ plain).tolist(), rel=1e-4)
    assert found.scores["after"].tolist() == pytest.approx(
        (scale * texts @ steered).tolist(), rel=1e-4, abs=1e-3
    )
    assert found.cosine == pytest.approx(float(plain @ steered), abs=1e-5)
    latents = found.latents.set_index("latent")
    assert latents.loc[first, "after"] == 4.0
    assert latents.loc[second, "after"] <= 0 < latents.loc[second, "before"]


def test_without_prompts_the_classes_that_move_most_come_first(run, image):
    with Image.open(image) as opened:
        picture = opened.convert("RGB")
    found = steer_image(run, picture, {active_latents(run, picture)[0]: 9.0})
    assert {*found.scores["prompt"]} == {*run.data.class_names}
    moved = found.scores["change"].abs().tolist()
    assert moved == sorted(moved, reverse=True)


def test_the_command_says_what_moved(small_run, image, capsys):
    words = [str(small_run), "--image", str(image), "--device", "cpu"]
    latent = open_run(small_run).latents.index[0]
    main([*words, "--set", f"{latent}=3", "--top", "4"])
    said = capsys.readouterr().out
    assert "set or scaled" in said
    assert "before and after" in said
    assert "20 more move less" in said
    assert "largest score: " in said
    assert not (small_run / "pictures" / f"explain_{image.stem}.png").exists()
    main([*words, "--set", f"{latent}*0", "--prompt", PROMPTS[0], "--top", "2"])
    said = capsys.readouterr().out
    assert "before and after" in said
    assert "all active latents" in said  # and it is explained


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "no such label=3"], "no latent has the label 'no such label'"),
        (["--set", "0"], "an edit is LATENT=VALUE"),
        ([], "there is no prompt"),
    ],
)
def test_what_the_command_refuses(small_run, image, words, message):
    with pytest.raises(SystemExit, match=message):
        main([str(small_run), "--image", str(image), "--device", "cpu", *words])
