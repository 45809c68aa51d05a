"""Who may import whom: every room of the house has its place, and nobody imports upwards or in a circle."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = (
    *("lazy", "types", "mappings", "trust", "progress", "files", "home"),
    *("devices", "errors", "report", "metrics"),
    *("clip.loading", "clip", "world"),
    *("sae.kernels", "sae", "sae.variants", "sae.saving", "sae.exchange", "sae:front"),
    *("data.claims", "data.hashing", "data.images", "data.store", "data.capture"),
    *("data.loading", "data", "data.engines", "data.sources", "data:front"),
    *("concepts", "classifiers", "attribution", "training", "tracking", "runs", "baselines"),
    "pairs",
    "steering",
    *("report.latent_name", "report.faithfulness_picture", "report.gallery_picture"),
    *(
        "compare.checks",
        "compare.runs",
        "compare.differences",
        "compare.matching",
        "audit.estimate",
        "audit.origins.origin",
        "audit.findings",
        "stability",
    ),
    *("browser", "graphs", "explain", "compare", "names"),
    *(
        "audit.evidence",
        "audit.verdict",
        "audit",
        "audit.origins",
        "audit.report",
        "audit.audit",
        "audit.shown",
        "audit:front",
    ),
    *("monitoring", "explorer", "correct", "composing", "program"),
)
"""Rooms, each of which may import what stands before it; a front is an `__init__.py`."""
EXCEPTIONS = {
    ("sae.base", "sae.saving.hub"): "a model saves itself, as `save_pretrained` of huggingface_hub does"
}


def name(path: Path) -> str:
    """`lightning_sae/clip/hooks.py` -> `clip.hooks`; a package without `.__init__`."""
    parts = path.relative_to(ROOT / "lightning_sae").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


FILES = {name(path): path for path in sorted((ROOT / "lightning_sae").rglob("*.py")) if name(path)}
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))
DOCUMENTED = (ast.FunctionDef, ast.ClassDef)
GUESSING = {
    *[
        "What",
        "Which",
        "Whether",
        "Of",
        "Those",
        "How",
        "Where",
        "By",
        "For",
        "As",
        "With",
        "From",
        "None",
        "Nothing",
    ]
}
CALLBACKS = sorted((ROOT / "callbacks").glob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Absolute names of what a file imports, also within functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(path: Path) -> set[str]:
    """Files of the library that a file imports."""
    found = (
        text.removeprefix("lightning_sae.") for text in imports(path) if text.startswith("lightning_sae.")
    )
    return {known for text in found if (known := known_file(text))}


def known_file(text: str) -> str:
    """`clip.hooks.splice` -> `clip.hooks`; nothing for the version and the like."""
    words = text.split(".")
    prefixes = (".".join(words[:i]) for i in range(len(words), 0, -1))
    return next((prefix for prefix in prefixes if prefix in FILES), "")


def room(file: str) -> str:
    """The place of a file in the order: its own, or that of the innermost package that has one."""
    if f"{file}:front" in ORDER:
        return f"{file}:front"
    if file.endswith("__main__") or file == "fit_probe":  # doors to the program
        return "program"
    words = file.split(".")
    return next(r for i in range(len(words), 0, -1) if (r := ".".join(words[:i])) in ORDER)


@pytest.mark.parametrize("file", FILES)
def test_the_library_imports_downwards(file):
    place = ORDER.index(room(file))
    upwards = {
        other
        for other in ours(FILES[file]) - {file}
        if ORDER.index(room(other)) > place and (file, other) not in EXCEPTIONS
    }
    assert not upwards
    beside = {"benchmarks", "callbacks", "tests", "train"}  # no wheel has them on its top level
    assert not {text.split(".")[0] for text in imports(FILES[file])} & beside


def test_there_is_no_circle_of_files():
    edges = {file: ours(path) - {file} for file, path in FILES.items()}
    for file, other in EXCEPTIONS:
        edges[file].discard(other)
    while edges:
        free = [file for file, others in edges.items() if not others & edges.keys()]
        assert free, f"a circle among {sorted(edges)}"
        for file in free:
            del edges[file]


def test_every_room_is_there():
    assert {room(file) for file in FILES} == {*ORDER}
    loose = {path.stem for path in (ROOT / "lightning_sae").glob("*.py")} - {"__init__", "__main__"}
    assert loose == {"lazy", "types", "files", "errors", "home", "mappings", "progress", "fit_probe"}


def test_a_class_name_means_one_thing():
    classes = [
        (node.name, file)
        for file, path in FILES.items()
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    counts = Counter(name for name, _ in classes)
    assert not [(name, file) for name, file in classes if counts[name] > 1]


def test_train_imports_none_of_ours():
    assert not {text.split(".")[0] for text in imports(ROOT / "train.py")} & {"lightning_sae", "callbacks"}


@pytest.mark.parametrize("path", CALLBACKS, ids=lambda path: path.stem)
def test_callbacks_import_no_callback_but_the_base(path):
    """They give each other results, whose types live in the library."""
    others = {text for text in imports(path) if text.split(".")[0] == "callbacks"}
    assert all(text.startswith("callbacks.base.") for text in others)


def test_only_the_trackers_parts_name_a_tracker():
    files = [*FILES.values(), *CALLBACKS, ROOT / "train.py"]
    for name in ("wandb", "mlflow", "tensorboard"):
        loggers = (name, f"lightning.pytorch.loggers.{name}")
        users = {
            path.stem for path in files if any(text.lower().startswith(loggers) for text in imports(path))
        }
        assert users == {f"{name}_logger"}


def test_configurations_are_built_in_one_place():
    """There what a stranger's run may name is checked."""
    files = [*FILES.values(), *CALLBACKS]
    builders = {path.stem for path in files if any(text.startswith("hydra.utils") for text in imports(path))}
    assert builders == {"targets"}


@pytest.mark.parametrize(
    "path", [*FILES.values(), *CALLBACKS, *BENCHMARKS], ids=lambda path: str(path.relative_to(ROOT))
)
def test_docstrings_begin_with_what_a_thing_does_or_is(path):
    """Ruff holds that functions begin with an imperative; here are the openings that leave one guessing."""
    nodes = [n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, DOCUMENTED)]
    openings = {(ast.get_docstring(node) or "The").split()[0].strip(".,:") for node in nodes}
    assert not openings & GUESSING
