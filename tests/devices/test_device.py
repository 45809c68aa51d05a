"""Which device a user gets for what is asked for, on machines with and without GPUs."""

from types import contextlib

import pytest
import SimpleNamespace
import torch

from lightning_sae import fit_probe
from lightning_sae.audit import __main__ as audit
from lightning_sae.correct import __main__ as correct
from lightning_sae.data import __main__ as data
from lightning_sae.devices.device import describe, find_device, use_device
from lightning_sae.explain import __main__ as explain
from lightning_sae.world import pretrain

COMMANDS = [
    *((command, []) for command in (explain, audit, correct, fit_probe, pretrain)),
    *((data, [name]) for name in ("capture", "precision")),
]


@pytest.fixture
def gpus(monkeypatch):
    """A machine with some GPUs, of which number 1 is the current one."""

    def gpus(count, built=True):
        monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: min(1, count - 1))
        card = SimpleNamespace(name="NVIDIA H200", total_memory=150_114_992_128)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)

    return gpus


@pytest.mark.parametrize(
    ("count", "choice", "found"),
    [
        (0, "auto", "cpu"),
        (0, "cpu", "cpu"),
        (1, "auto", "cuda:0"),
        (2, "auto", "cuda:1"),
        (2, "cpu", "cpu"),
        (2, "cuda", "cuda:1"),
        (2, "cuda:0", "cuda:0"),
    ],
)
def test_a_choice_names_a_device(gpus, count, choice, found):
    gpus(count)
    assert find_device(choice) == torch.device(found)


@pytest.mark.parametrize(
    ("count", "choice", "message"),
    [
        (2, "cuda:2", "there is no cuda:2, the GPUs are cuda:0 to cuda:1"),
        (1, "cuda:3", "there is no cuda:3, cuda:0 is the only GPU"),
        (0, "cuda:0", "torch sees none: `nvidia-smi` tells"),
        (2, "cdua:0", "must be auto, cpu, cuda or cuda:N .* got 'cdua:0'"),
        (2, "cuda:-1", "must be auto, .* got 'cuda:-1'"),
        (2, "", "must be auto, .* got ''"),
    ],
)
def test_a_choice_that_is_none_is_refused(gpus, count, choice, message):
    gpus(count)
    with pytest.raises(ValueError, match=message):
        find_device(choice)


def test_gpus_that_are_hidden_are_told_of(gpus, monkeypatch):
    gpus(0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with pytest.raises(ValueError, match="CUDA_VISIBLE_DEVICES=7"):
        find_device("cuda")


def test_a_torch_without_cuda_is_told_of(gpus):
    gpus(0, built=False)
    with pytest.raises(ValueError, match="is built without it: install"):
        find_device("cuda:0")


def test_one_line_says_which_it_is(gpus, capsys):
    gpus(1)
    assert use_device("auto") == torch.device("cuda", 0)
    assert capsys.readouterr().out == "device: cuda:0 (NVIDIA H200, 139.8 GiB)\n"


def test_a_cpu_is_known_by_its_threads(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    assert describe(torch.device("cpu")) == "cpu (16 threads)"
    assert describe(torch.device("meta")) == "meta"


@pytest.mark.parametrize(("command", "arguments"), COMMANDS)
def test_every_command_that_runs_a_model_has_the_option(command, arguments, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["command", *arguments, "--help"])
    monkeypatch.setenv("COLUMNS", "200")
    with contextlib.suppress(SystemExit):  # of argparse
        command.main()
    said = " ".join(capsys.readouterr().out.split())
    assert "--device DEVICE" in said
    assert "auto, cpu or cuda:N" in said


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (explain, ["RUN", "--image", __file__, "--prompt", "star"]),
        (audit, ["RUN"]),
        (fit_probe, ["RUN", "--out", "DIR"]),
        (data, ["capture"]),
        (data, ["precision"]),
    ],
)
def test_a_device_that_is_not_there_is_refused_first(command, arguments, gpus, monkeypatch):
    gpus(1)
    monkeypatch.setattr("lightning_sae.explain.image_file.read_image", lambda path: None)
    monkeypatch.setattr("sys.argv", ["command", *arguments, "--device", "cuda:3"])
    with pytest.raises(SystemExit, match=r"ValueError: there is no cuda:3, cuda:0 is the only GPU"):
        command.main()


def test_an_engine_with_devices_of_its_own_takes_none(monkeypatch):
    monkeypatch.setattr("sys.argv", ["data", "capture", "--engine", "devices", "--device", "cpu"])
    with pytest.raises(SystemExit, match=r"--device cpu is for --engine in_process.*engine\.accelerator"):
        data.main()
