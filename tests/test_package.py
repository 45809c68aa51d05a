"""`import lightning_sae as ls`: all names are there, and nothing large is imported before it is needed."""

import ast
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import lightning_sae as ls
import lightning_sae.data

LARGE = {
    "torch",
    "lightning",
    "open_clip",
    "pandas",
    "numpy",
    "hydra",
    "matplotlib",
    "PIL",
    "sklearn",
    "wandb",
}
LATE = pytest.mark.parametrize("package", [ls, lightning_sae.data], ids=lambda package: package.__name__)
NOTING = """
import builtins, sys
by_us, real = set(), builtins.__import__
def noting(name, globals=None, *rest, **more):
    if globals and globals.get("__name__", "").split(".")[0] == "lightning_sae":
        by_us.add(name.split(".")[0])
    return real(name, globals, *rest, **more)
builtins.__import__ = noting
"""


def imported(code):
    """The packages that code imports: all, and those that modules of ours name."""
    end = "print(*{name.split('.')[0] for name in sys.modules}); print(*by_us)"
    command = [sys.executable, "-c", "\n".join([NOTING, code, end])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    everything, by_us = done.stdout.splitlines()
    return {*everything.split()}, {*by_us.split()}


@pytest.mark.parametrize(
    ("code", "needed"),
    [
        ("import lightning_sae as ls; dir(ls)", set()),
        ("import lightning_sae.data.store.verify", set()),
        ("import lightning_sae as ls, lightning_sae.sae.exchange; ls.load_sae", {"torch", "numpy"}),
        (
            "import lightning_sae.compare, lightning_sae.compare.terminal",
            {"torch", "numpy", "pandas", "PIL", "matplotlib", "hydra"},
        ),
    ],
    ids=["itself", "verify", "load_sae", "compare"],
)
def test_nothing_large_is_imported_before_it_is_needed(code, needed):
    everything, _ = imported(code)
    assert everything & LARGE <= needed


def test_we_name_nothing_large_before_it_is_needed():
    """Lightning has matplotlib imported by torchmetrics, open_clip has wandb imported by timm."""
    code = """
import lightning_sae.data as data, lightning_sae.data.commands
import lightning_sae.runs.folder, lightning_sae.runs.recall, lightning_sae.classifiers.saved_probe
for name in dir(data): getattr(data, name)
"""
    _, by_us = imported(code)
    assert not by_us & {"matplotlib", "open_clip", "sklearn", "wandb"}
    assert {"torch", "lightning", "pandas"} <= by_us


@pytest.mark.parametrize("name", ls.__all__)
def test_each_name_is_a_function_with_documentation(name):
    assert name in dir(ls)
    assert getattr(ls, name).__name__ == name
    assert getattr(ls, name).__doc__
    assert f"ls.{name}" in ls.__doc__


def typed(package):
    """The names that a type checker sees, and where each comes from."""
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return [(alias.name, statement.module) for statement in block.body for alias in statement.names]


@LATE
def test_a_name_is_what_a_type_checker_takes_it_for(package):
    for name, module in typed(package):
        assert name in dir(package)
        assert getattr(package, name) is getattr(import_module(module), name)


@LATE
def test_no_name_is_that_of_a_module(package):
    """Which an import of the module would put into its place."""
    assert not {module.name for module in pkgutil.iter_modules(package.__path__)} & {*dict(typed(package))}


def test_what_is_not_there():
    with pytest.raises(AttributeError, match="has no attribute 'explain_images'; it has audit_classifier"):
        _ = ls.explain_images
