"""A GPU that is too small: one message with the numbers, what went on, and settings that exist."""

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir

from lightning_sae.data import __main__ as data_command
from lightning_sae.devices.gpu_memory import check_room, is_out_of_memory, too_small
from lightning_sae.devices.memory_places import ANYWHERE, OF_CALLBACKS, PLACES, callback_place
from lightning_sae.errors import one_line_errors
from lightning_sae.explain.__main__ import main as explain
from lightning_sae.training.launch import Room, check_launch
from lightning_sae.world import World

CONF = Path(__file__).parents[2] / "conf"
NUMBERS = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 1 has a total capacity of 139.81 GiB of which 1.20 "
    "GiB is free. Including non-PyTorch memory, this process has 138.60 GiB memory in use. Of the allocated "
    "memory 137.50 GiB is allocated by PyTorch, and 400.00 MiB is reserved by PyTorch but unallocated."
)
ADVICE = " See documentation for Memory Management  (https://pytorch.org/docs)"
SMALL = [
    *("data.n_train=64", "data.n_val=32", "data.n_test=1", "data.n_probe=8", "data.num_workers=0"),
    *("sae.d_sae=32", "sae.k=4", "trainer.accelerator=cpu", "logger=csv", "trainer.max_steps=2"),
    *("trainer.val_check_interval=1", "data.batch_size=32", "callbacks=[alignment]"),
]
GIB = 2**30

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def short(monkeypatch):
    """Makes a function run out of memory."""

    def short(name):
        def fails(*args, **kwargs):
            raise torch.OutOfMemoryError(NUMBERS + ADVICE)

        monkeypatch.setattr(name, fails)

    return short


@pytest.fixture
def card(monkeypatch):
    """Two GPUs of 8 GiB; of one some are free, and one is reserved by this process and half of it in use."""

    def card(free):
        cards = {0: SimpleNamespace(name="The first", total_memory=8 * GIB)}
        cards[1] = SimpleNamespace(name="The second", total_memory=8 * GIB)
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: cards[device.index])
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free * GIB), 8 * GIB))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: GIB)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: GIB // 2)

    return card


def every_setting():
    places = [ANYWHERE, *PLACES.values(), *map(callback_place, OF_CALLBACKS)]
    return sorted({setting for place in places for setting in place.settings if not setting.startswith("--")})


@pytest.mark.parametrize("setting", every_setting())
def test_the_settings_exist(setting):
    chosen = ["clip=open_clip", "callbacks=[default,probe_vs_prompt,edges,steering,ema]"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        compose("train", [*chosen, setting.replace("=N", "=8"), "run_dir=RUN"])


@pytest.mark.parametrize("name", [*PLACES, *(f"callbacks.{name}" for name in OF_CALLBACKS)])
def test_the_places_exist(name):
    if name.startswith("lightning_sae.training.module."):
        module, function = name.rsplit(".", 1)
        assert callable(getattr(import_module(module).SAEModule, function))
    else:
        import_module(name)


@pytest.mark.parametrize(
    ("function", "doing", "setting"),
    [
        (
            "lightning_sae.data.capture.clip_pass.keep_tokens",
            "CLIP looked at images",
            "data.capture_batch_size=N",
        ),
        (
            "lightning_sae.data.store.activations.read_tensor",
            "activations were read",
            "data.memory_limit_gb=0",
        ),
        ("lightning_sae.sae.TopK.training_loss", "the autoencoder was trained", "data.batch_size=N"),
        ("torch.optim.Adam.step", "the autoencoder was trained", "trainer.precision=bf16-mixed"),
        ("lightning_sae.metrics.FVU.update", "a validation pass ran", "data.eval_batch_size=N"),
        ("callbacks.alignment.best_labels", "the callback alignment was at", "callbacks.alignment.draws=N"),
    ],
)
def test_a_training_ends_in_one_message(train_py, short, tmp_path, function, doing, setting):
    short(function)
    said = train_py(*SMALL, f"data.store_dir={tmp_path / 'store'}", f"hydra.run.dir={tmp_path / 'run'}")
    assert f"OutOfMemoryError: the GPU ran out of memory while {doing}" in said
    assert f"\n{NUMBERS}\nWhat helps:\n" in said
    assert f"\n  {setting} " in said
    assert "\n  trainer.accelerator=cpu " in said
    assert "documentation" not in said


def test_a_capture_ends_in_one_message(short, monkeypatch, tmp_path):
    short("lightning_sae.data.capture.clip_pass.keep_tokens")
    overrides = ["data.n_train=8", "data.n_val=8", "data.num_workers=0", f"data.store_dir={tmp_path}"]
    monkeypatch.setattr("sys.argv", ["data", "capture", *overrides])
    with pytest.raises(SystemExit, match=r"(?s)while CLIP looked at images.*2\.00 GiB.*  --device cpu "):
        data_command.main()


def test_a_command_ends_in_one_message(short, small_run, tmp_path):
    short("lightning_sae.attribution.methods.ActGrad.__call__")
    World("biased", "test", 1).image(0).save(tmp_path / "image.png")
    command = [str(small_run), "--image", str(tmp_path / "image.png"), "--prompt", "star"]
    with pytest.raises(SystemExit, match=r"(?s)while an image was explained.*  --top N .*  --device cpu "):
        explain(command)


def test_a_job_of_a_multirun_keeps_the_message(train_py, short, tmp_path):
    short("lightning_sae.sae.TopK.training_loss")
    given = ["-m", *SMALL, f"data.store_dir={tmp_path / 'store'}", f"hydra.sweep.dir={tmp_path}", "seed=0,1"]
    assert train_py(*given) == 1
    for job in ("0", "1"):
        assert "while the autoencoder was trained" in (tmp_path / job / "error.txt").read_text()


def test_the_card_is_named(card):
    card(free=1.2)
    said = too_small(torch.OutOfMemoryError(NUMBERS), "--device cpu")
    assert said.startswith(
        "cuda:1 (The second, 8.0 GiB) ran out of memory while it was at work.\nCUDA out of"
    )
    other = too_small(RuntimeError("CUDA error: out of memory\nCUDA kernel errors might"), "--device cpu")
    assert other.startswith("cuda:0 (The first, 8.0 GiB) ran out of memory")
    assert "kernel" not in other


def test_what_is_no_lack_of_memory_keeps_its_traceback():
    assert not is_out_of_memory(ValueError("CUDA error: out of memory"))
    with pytest.raises(RuntimeError, match="shapes"), one_line_errors():
        raise RuntimeError("shapes do not fit")


@pytest.mark.parametrize(("weights", "free", "fits"), [(1.0, 2.5, True), (1.1, 2.5, False), (0.1, 0.0, True)])
def test_gradient_and_moments_are_three_times_the_weights(card, weights, free, fits):
    card(free)  # half a GiB more is reserved and not in use
    if fits:
        check_room(int(weights * GIB), torch.device("cuda", 0))
        return
    message = (
        r"(?s)has no room .* weights of 1\.1 GiB .* need 3\.3 GiB, and 3\.0 GiB of 8\.0 GiB.*sae\.d_sae=N"
    )
    with pytest.raises(ValueError, match=message):
        check_room(int(weights * GIB), torch.device("cuda", 0))


def test_a_training_without_room_does_not_start(card):
    card(free=0.1)
    trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cuda", 0)))
    with torch.device("meta"):
        model = torch.nn.Linear(1 << 14, 1 << 14)  # 1 GiB of weights
    with pytest.raises(ValueError, match="no room to train"):
        Room().on_fit_start(trainer, model)


def test_only_a_training_on_a_gpu_needs_room_there(monkeypatch, capsys):
    trainer = SimpleNamespace(callbacks=[], world_size=1, strategy=SimpleNamespace(), precision="32-true")
    monkeypatch.setattr("lightning_sae.training.launch.describe", str)
    for name, callbacks in (("cpu", []), ("cuda:1", [Room])):
        trainer.strategy.root_device = torch.device(name)
        check_launch(trainer, {})
        assert [type(callback) for callback in trainer.callbacks] == callbacks
    assert capsys.readouterr().out == "device: cpu\ndevice: cuda:1\n"
