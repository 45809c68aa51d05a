"""What those who carry this on rely on: one script of checks, one version, a README that an index shows."""

import ast
import itertools
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from lightning_sae import __version__

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def sessions():
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any("nox.session" in ast.unparse(d) for d in node.decorator_list)
    ]


def jobs(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()


def runs(job):
    """The commands of a job, once for each cell of its matrix."""
    matrix = job.get("strategy", {}).get("matrix", {})
    for values in itertools.product(*matrix.values()):
        for step in job["steps"]:
            text = step.get("run", "")
            for name, value in step.get("env", {}).items():
                text = text.replace(f'"${name}"', value)
            for name, value in zip(matrix, values, strict=True):
                text = text.replace(f"${{{{ matrix.{name} }}}}", value)
            if text:
                yield text


def test_workflows_do_what_ci_run_does():
    called = [run for path in WORKFLOWS for job in jobs(path) for run in runs(job)]
    words = [run.split(" -- ")[0].split() for run in called]
    assert {first for first, *_ in words} == {".ci/run"}
    assert {name for _, *names in words for name in names} == {*sessions()}


def test_ci_run_does_all_but_the_oldest_pytorch():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert {*re.search(r"set -- ([\w ]+)$", script, re.MULTILINE)[1].split()} == {*sessions()} - {"oldest"}
    assert 'nox --stop-on-first-error --sessions "$@"' in script


def test_hooks_before_a_commit_call_sessions():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0][
        "hooks"
    ]
    assert {hook["entry"].removeprefix("nox -s ") for hook in hooks} <= {*sessions()}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_jobs_may_little_and_end(path):
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 75 for job in jobs(path))


def test_the_pythons_are_those_that_are_tested():
    (fast,) = (job for path in WORKFLOWS for job in jobs(path) if "python" in str(job.get("strategy")))
    versions = fast["strategy"]["matrix"]["python"]
    said = [text.split(" :: ")[-1] for text in PYPROJECT["project"]["classifiers"] if "Python :: 3." in text]
    assert said == versions
    assert PYPROJECT["project"]["requires-python"] == f">={versions[0]}"


def test_one_version():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == __version__
    heading = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert heading in {__version__, "Unreleased"}


def test_an_index_shows_the_readme():
    """By absolute addresses alone, of files that are there."""
    hook = PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pictures = len(re.findall(r"!\[", text))
    for change in hook["substitutions"]:
        text = re.sub(change["pattern"], change["replacement"], text)
    links = re.findall(r"\]\((\S+?)\)", text)
    assert links
    assert all(link.startswith("https://") for link in links)
    assert len(re.findall(r"!\[[^]]*\]\(https://raw\.\S+\.png\)", text)) == pictures > 0
