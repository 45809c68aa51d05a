"""The commands that check this package, each in one place.

They run in the environment that is active, that of `pip install -e ".[dev]"`: `nox -s lint types`. `.ci/run`
makes a fresh one first; the workflows call `.ci/run`.
"""

import shutil

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "docs", "fast"]
nox.options.stop_on_first_error = True

PYTEST = ("pytest", "-q", "--dist", "loadfile", "--no-loadscope-reorder")
"""Tests of a file share what they have trained; in the order of the files, whose last ones are short."""
ENVIRONMENT = {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}


@nox.session
def lint(session: nox.Session) -> None:
    """Hold the rules and the format of Ruff."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types, strictly."""
    session.run("mypy")


@nox.session
def fast(session: nox.Session) -> None:
    """Run the tests that take seconds, on all cores."""
    session.run(*within(1200), *PYTEST, "-n", "auto", *session.posargs, env=ENVIRONMENT)


@nox.session
def oldest(session: nox.Session) -> None:
    """Run the tests that take seconds with the oldest PyTorch, in place of the one that is installed."""
    (torch,) = (d for d in nox.project.load_toml()["project"]["dependencies"] if d.startswith("torch>="))
    version = torch.removeprefix("torch>=").split(",")[0]
    session.run("pip", "install", "--quiet", f"torch=={version}.*", "torchvision")
    session.notify("fast", ("--ignore=tests/devices",))  # the pretend device there needs 2.10


@nox.session
def slow(session: nox.Session) -> None:
    """Run the tests that take minutes, two at a time: many of them start processes of their own.

    They install and start a browser and a SLURM, where they may.
    """
    words = ("-m", "slow", "-n", "2", "--timeout", "600")
    session.run(*within(2700), *PYTEST, *words, *session.posargs, env=ENVIRONMENT)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site, into a folder with `nox -s docs -- site`; a warning is an error."""
    folder = session.posargs[0] if session.posargs else f"{session.create_tmp()}/site"
    session.run("mkdocs", "build", "--strict", "--site-dir", folder)


@nox.session
def wheel(session: nox.Session) -> None:
    """Build what an index gets, into a folder with `nox -s wheel -- dist`, and check it as the index does."""
    folder = session.posargs[0] if session.posargs else f"{session.create_tmp()}/dist"
    shutil.rmtree(folder, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", folder)
    session.run("twine", "check", "--strict", f"{folder}/*")


def within(seconds: int) -> tuple[str, ...]:
    """Return the words before a command that end it after a time, where the system has them."""
    return ("timeout", str(seconds)) if shutil.which("timeout") else ()
