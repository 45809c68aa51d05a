"""`import lightning_sae as ls`: quick, and all names are there."""

import subprocess
import sys

import pytest

import lightning_sae as ls


def test_importing_it_imports_nothing_large():
    code = "import sys, lightning_sae as ls; dir(ls); print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    large = {"torch", "lightning", "open_clip", "pandas", "numpy", "hydra", "omegaconf", "matplotlib", "PIL"}
    assert not set(done.stdout.split()) & large


@pytest.mark.parametrize("name", ls.__all__)
def test_each_name_is_a_function_with_documentation(name):
    assert name in dir(ls)
    assert getattr(ls, name).__name__ == name
    assert getattr(ls, name).__doc__
    assert f"ls.{name}" in ls.__doc__


def test_no_name_is_that_of_a_package():
    """Which an import of the package would put into its place."""
    import pkgutil

    assert not {module.name for module in pkgutil.iter_modules(ls.__path__)} & {*ls.__all__}


def test_what_is_not_there():
    with pytest.raises(AttributeError, match="has no attribute 'explain_images'; it has audit_classifier"):
        _ = ls.explain_images
