"""The commands, end to end on a tiny run, and the numbers of its images against dense tensors."""

import shutil

import pytest
import torch

from lightning_sae.attribution.explained import Explained
from lightning_sae.monitoring import Monitor
from lightning_sae.monitoring.alarms import read_record
from lightning_sae.monitoring.image_numbers import image_numbers
from lightning_sae.monitoring.looking import Looking
from lightning_sae.monitoring.state import load_state
from lightning_sae.program import main
from lightning_sae.program.monitor import ALARM
from lightning_sae.runs.classifier import prompt_classifier
from lightning_sae.runs.folder import open_run
from lightning_sae.world import World

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def status(*words):
    """The exit status of a command."""
    try:
        main([str(word) for word in words])
    except SystemExit as stop:
        return stop.code
    return 0


@pytest.fixture(scope="session")
def world():
    return World("biased", "test", 400, seed=9)


@pytest.fixture(scope="session")
def pictures(world, tmp_path_factory):
    """Name, ids of pictures -> a folder of them."""

    def pictures(name, ids):
        folder = tmp_path_factory.mktemp(name)
        for place, i in enumerate(ids):
            world.image(i).save(folder / f"{place:04}.png")
        return folder

    return pictures


@pytest.fixture(scope="session")
def fitted(small_run, pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("monitor") / "new"
    usual = pictures("usual", range(150))
    assert status("monitor", "fit", small_run, "--images", usual, "--out", out) == 0
    return out


@pytest.fixture
def monitor(fitted, tmp_path):
    folder = tmp_path / "monitor"
    shutil.copytree(fitted, folder)
    return folder


def test_the_numbers_are_what_dense_tensors_say(small_run):
    run = open_run(small_run)
    run.data.prepare_data()
    run.data.setup("validate")
    x = next(iter(run.data.val_dataloader())).x[:20]
    scores = prompt_classifier(run).scores("margin")
    explained = Explained.of(run.data.tail, run.sae, x[:, None])
    found = image_numbers(explained, run.sae, scores, {}, torch.arange(20) % 2 == 0)
    a = run.sae.encode(x).to_dense().detach().requires_grad_()
    own = scores(run.data.tail((a @ run.sae.W_dec + x - a.detach() @ run.sae.W_dec)[:, None], None))
    assert torch.equal(found.predicted, own.argmax(1))
    (g,) = torch.autograd.grad(own.max(1).values.sum(), a)
    positive = (a * g).detach().clamp(min=0)
    shares = positive / positive.sum(1, keepdim=True).clamp(min=1e-30)
    shares[1::2] = 0  # not attributed
    torch.testing.assert_close(found.shares.to_dense(), shares, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found.latents.to_dense(), a.detach())
    error = (x - run.sae(x)[0]).square().sum(1) / (x - run.sae.bias()).square().sum(1)
    torch.testing.assert_close(found.error, error.clamp(max=1).detach())
    every = dict.fromkeys(range(24), range(run.sae.d_sae))
    whole = image_numbers(explained, run.sae, scores, every, torch.ones(20).bool())
    torch.testing.assert_close(whole.culprits, (positive.sum(1) > 0).float())


def test_behind_a_block_in_the_middle_some_images_are_attributed(small_patch_run, world):
    run = open_run(small_patch_run)
    looking = Looking.of(run, _classifier(run), {})
    assert looking.every == 20
    numbers = looking.at_pixels(torch.stack([run.data.clip.preprocess(world.image(i)) for i in range(25)]), 3)
    assert numbers.attributed.nonzero().flatten().tolist() == [17]
    sums = numbers.shares.to_dense().sum(1)
    assert sums[17] == pytest.approx(1, abs=1e-5)
    assert sums.sum() == sums[17]
    with pytest.raises(ValueError, match="later blocks need the image's grid"):
        looking.at_activations(torch.zeros(2, run.sae.d_in), 0)


def _classifier(run):
    run.data.prepare_data()
    run.data.setup("validate")
    return prompt_classifier(run)


def test_usual_images_raise_nothing(monitor, pictures, capsys):
    assert status("monitor", "watch", monitor, "--images", pictures("more", range(150, 250))) == 0
    assert capsys.readouterr().out.rstrip().endswith(str(monitor / "monitor.html"))
    record = read_record(monitor)
    assert (record.seen, record.bad, record.alarms) == (100, 0, ())
    assert not any(load_state(monitor).recent.pictures)
    written = {"metrics.prom", "monitor.html", "monitor.json", "reference.safetensors", "state.safetensors"}
    assert {path.name for path in monitor.iterdir()} == written


def test_one_image_again_and_again_raises_an_alarm(monitor, pictures, capsys):
    folder = pictures("same", [3] * 200)
    (folder / "zz.png").write_bytes(b"no image")
    assert status("monitor", "watch", monitor, "--images", folder, "--thumbnails") == ALARM
    said = capsys.readouterr().out
    assert "ALARM after image " in said
    assert "cannot be read, left out: " in said
    record = read_record(monitor)
    assert (record.seen, record.bad) == (200, 1)
    assert record.standing
    assert all(load_state(monitor).recent.pictures)
    assert 'alt="image from now"' in (monitor / "monitor.html").read_text()


def test_a_list_that_grew_goes_on_where_it_stopped(monitor, pictures, tmp_path, capsys):
    names = sorted(str(path) for path in pictures("grown", range(250, 330)).iterdir())
    listed = tmp_path / "list.txt"
    for n, again in ((30, False), (30, True), (80, True)):
        listed.write_text("\n".join(names[:n]) + "\n")
        assert status("monitor", "watch", monitor, "--images", listed) == 0
        assert read_record(monitor).seen == n
        assert ("have been watched before" in capsys.readouterr().out) == again


def test_names_come_from_the_standard_input(monitor, pictures, monkeypatch):
    lines = [f"{path}\n" for path in sorted(pictures("piped", range(330, 340)).iterdir())]
    monkeypatch.setattr("sys.stdin", [*lines, "\n", "/nowhere.png\n"])
    assert status("monitor", "watch", monitor, "--images", "-") == 0
    assert (read_record(monitor).seen, read_record(monitor).bad) == (10, 1)


def test_machines_are_merged(fitted, pictures, tmp_path):
    folders = []
    for name, ids in (("one", range(150, 200)), ("two", range(200, 270))):
        shutil.copytree(fitted, tmp_path / name)
        assert status("monitor", "watch", tmp_path / name, "--images", pictures(name, ids)) == 0
        folders.append(tmp_path / name)
    assert status("monitor", "merge", *folders, "--out", tmp_path / "both") == 0
    both = read_record(tmp_path / "both")
    assert (both.seen, both.machines) == (120, 2)
    for family in range(4):
        assert (
            both.families[family].log10_e
            <= sum(read_record(f).families[family].log10_e for f in folders) + 1e-9
        )


def test_a_service_gives_pictures_pixels_or_activations(monitor, small_run, world):
    run, found = open_run(small_run), []
    images = [world.image(i) for i in range(70)]
    pixels = torch.stack([run.data.clip.preprocess(image) for image in images])
    for given in (images, pixels, None):
        own = Monitor.open(monitor, run)
        x = own.looking.at_pixels(pixels, 0) if given is None else None
        if given is None:
            from lightning_sae.clip import activations_at

            with torch.no_grad():
                x = activations_at(run.data.clip, [run.data.hook], pixels)[run.data.hook]
            given = x
        assert own.update(given[:30]) == []
        own.update(given[30:])
        assert own.seen == 70
        found.append(own.state.evidence.log_e())
    for each in found[1:]:
        assert each == pytest.approx(found[0], abs=1e-3)
    with pytest.raises(ValueError, match=r"activations at .* are \[n, \d+\], got"):
        own.update(torch.zeros(3, 5))
    own.save()
    assert Monitor.open(monitor, run).seen == 70


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["watch", "{tmp}", "--images", "x"], "has no reference.safetensors"),
        (["watch", "{monitor}", "--images", "{tmp}/nowhere"], "No such file"),
        (["watch", "{monitor}", "--images", "{tmp}"], "names no images"),
        (["fit", "{run}", "--out", "{tmp}/new"], "a reference takes 100 at least"),
        (["fit", "{run}", "--out", "{tmp}/new", "--alpha", "2"], "alpha must lie between 0 and 1, got 2"),
        (["merge", "{monitor}", "{monitor}", "--out", "{tmp}/new"], "has no state.safetensors"),
    ],
)
def test_what_the_user_can_mend_ends_in_one_message(monitor, small_run, tmp_path_factory, words, message):
    tmp = tmp_path_factory.mktemp("empty")
    places = {"tmp": tmp, "monitor": monitor, "run": small_run}
    said = status("monitor", *(word.format(**places) for word in words))
    assert message in str(said)
    assert not list(tmp.iterdir())
