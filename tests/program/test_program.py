"""The program: its help, what it says of a slip, and how its commands end."""

import os
import re
import shlex
import subprocess
import sys

import pytest
from hydra.errors import MissingConfigException
from typer.main import get_command

from lightning_sae import __version__
from lightning_sae.home import STARTED_BY
from lightning_sae.program import app, main

HEAVY = {"torch", "open_clip", "lightning", "pandas", "matplotlib", "sklearn", "wandb", "scipy", "PIL"}
CALLS = """
import contextlib, io, sys
from lightning_sae.program import main
for words in {lines}:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main(words)
print(*{{name.split(".")[0] for name in sys.modules}})
"""


def commands(group=None, words=()):
    """All that can be called, with the words that call it, groups as well."""
    group = group or get_command(app)
    yield list(words), group
    for name, inner in getattr(group, "commands", {}).items():
        yield from commands(inner, (*words, name))


COMMANDS = [pytest.param(words, command, id=" ".join(words) or "itself") for words, command in commands()]
TOOLS = [
    pytest.param(words, command, id=" ".join(words))
    for words, command in commands()
    if not hasattr(command, "commands") and words != ["train"]  # whose words are Hydra's
]
OPTIONS = [
    pytest.param(words, option, id=" ".join([*words, option]))
    for words, command in commands()
    for parameter in command.params
    for option in parameter.opts
    if option.startswith("--") and words != ["train"]
]


def said(*words, status=0, **environment):
    """What `python -m lightning_sae` prints, both streams, when it ends with a status."""
    done = subprocess.run(
        [sys.executable, "-m", "lightning_sae", *words],
        env={**os.environ, "COLUMNS": "120", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def refused(capsys, *words):
    """What it prints of a slip, in this process, on one line without frames."""
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    return " ".join(re.sub("[─-╿]", " ", capsys.readouterr().err).split())


def imported(lines, **environment):
    """The packages that are imported where lines are typed."""
    done = subprocess.run(
        [sys.executable, "-c", CALLS.format(lines=lines)],
        env=os.environ | environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return {*done.stdout.split()}


def test_the_help_of_every_command_imports_nothing_heavy():
    lines = [[*words, "--help"] for words, _ in commands()] + [["--version"], ["audit", "--fail-onn"]]
    assert not imported(lines) & HEAVY


def test_a_tab_imports_nothing_heavy():
    words = "lightning-sae audit RUN --fail"
    shell = {"_LIGHTNING_SAE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "3"}
    assert not imported([[]], **shell) & HEAVY


@pytest.mark.parametrize(("words", "command"), [each for each in COMMANDS if each.id != "train"])
def test_every_help_is_there(words, command, capsys):
    main([*words, "--help"])
    shown = capsys.readouterr().out
    assert " ".join(["Usage: lightning-sae", *words]) in shown
    assert command.help.split("\n")[0] in " ".join(shown.split())


@pytest.mark.parametrize(("words", "command"), [*TOOLS, COMMANDS[0]])
def test_every_example_can_be_typed(words, command):
    examples = re.findall(r"^ +lightning-sae (.+)$", command.epilog, re.MULTILINE)
    assert examples
    program = get_command(app)
    for example in examples:
        inner, rest = program, shlex.split(example)
        while hasattr(inner, "commands"):
            inner, rest = inner.commands[rest[0]], rest[1:]
        assert " ".join(words[-1:]) in example
        inner.make_context("example", [*rest])  # raises for an option or a value that there is not


def test_the_example_of_a_training_is_in_the_help_of_all():
    """That of `train` itself is Hydra's."""
    assert get_command(app).commands["train"].epilog.split("\n")[-1] in get_command(app).epilog


@pytest.mark.parametrize(("words", "command"), COMMANDS[1:])
def test_a_mistyped_command_is_told_the_nearest(words, command, capsys):
    *group, name = words
    slip = name[:-2] + name[-1] + name[-2]
    assert re.search(rf"No such command '{slip}'\. Did you mean .*'{name}'", refused(capsys, *group, slip))


def test_an_underscore_for_a_hyphen(capsys):
    assert "Did you mean 'fit-probe'?" in refused(capsys, "fit_probe", "RUN")
    assert "--fail-on" in refused(capsys, "audit", "RUN", "--fail_on", "high")


def test_a_command_that_nothing_is_like(capsys):
    assert refused(capsys, "quux").endswith("No such command 'quux'.")


@pytest.mark.parametrize(("words", "option"), OPTIONS)
def test_a_mistyped_option_is_told_the_nearest(words, option, capsys):
    shown = refused(capsys, *words, f"{option}x")
    assert re.search(rf"No such option: {option}x \(Possible options: .*{option}\b", shown)


def test_a_mistyped_choice_is_told_all(capsys):
    shown = refused(capsys, "audit", "RUN", "--fail-on", "hihg")
    assert "'hihg' is not one of 'low', 'medium', 'high'" in shown


def test_the_help_of_a_training_is_of_hydra():
    assert "hook_point=PATH" in said("train", "--help")


def test_its_version():
    assert said("--version") == f"lightning-sae {__version__}\n"


MISSING = {
    "verify": (["verify", "nothing"], "FileNotFoundError: no store in nothing: name a folder"),
    "compare": (["compare", "nothing"], "FileNotFoundError: "),
    "explain": (["explain", "nothing", "--image", __file__, "--prompt", "a star"], "BadImageError: "),
    "fit-probe": (["fit-probe", "nothing", "--out", "new"], "FileNotFoundError: nothing is no run folder"),
    "audit": (["audit", "nothing"], "FileNotFoundError: nothing is no run folder"),
    "correct": (
        ["correct", "nothing", "--finding=1", "--out=new"],
        "FileNotFoundError: nothing has no audit",
    ),
    "convert": (["sae", "convert", "nothing", "new", "--to", "saelens"], "FileNotFoundError: "),
    "precision": (["precision", "--config-dir=nothing"], "FileNotFoundError: --config-dir must be a folder"),
}


@pytest.fixture
def put_back(monkeypatch):
    """What a command changes in its process."""
    for name in ("path", "argv"):
        monkeypatch.setattr(sys, name, [*getattr(sys, name)])
    for name in ("PYTHONPATH", STARTED_BY):
        monkeypatch.setenv(name, os.environ.get(name, ""))


@pytest.mark.usefixtures("put_back")
@pytest.mark.parametrize(("words", "message"), MISSING.values(), ids=MISSING)
def test_an_error_is_one_message(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=re.escape(message)) as stop:
        main(words)
    assert stop.value.code.endswith("\n(HYDRA_FULL_ERROR=1 shows where.)")


def test_where_it_came_from_is_shown_on_request():
    words, message = MISSING["verify"]
    assert "Traceback" not in said(*words, status=1)
    shown = said(*words, status=1, HYDRA_FULL_ERROR="1")
    assert message in shown
    assert "Traceback (most recent call last)" in shown


@pytest.mark.usefixtures("put_back")
def test_a_training_shows_it_too(monkeypatch):
    """What leaves the program as it was raised, Python shows with all frames."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(MissingConfigException, match="Could not find 'sae/none'"):
        main(["train", "sae=none"])
