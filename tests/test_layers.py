"""Who may import whom."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORMULAS = {
    "alignment",
    "attribution",
    "class_attribution",
    "effects",
    "faithfulness",
    "last_layer",
    "mean_attribution",
    "methods",
    "probe_bias",
    "quality",
    "reliance",
    "scores",
    "shapley",
    "significance",
    "truth",
    "validity",
    "zero_shot",
}
LIBRARY = {path.stem for path in (ROOT / "lightning_sae").iterdir() if path.stem != "__init__"}
MAY_IMPORT: dict[str, set[str]] = {
    "types": set(),
    "paths": set(),
    "files": set(),
    "final_validation": set(),
    "goals": set(),
    "mappings": set(),
    "device": set(),
    "memory_places": set(),
    "gpu_memory": {"device", "memory_places"},
    "one_line_errors": {"gpu_memory", "files", "control_characters"},
    "targets": set(),
    "documents": set(),
    "control_characters": set(),
    "tables": {"documents"},
    "sae": {"types", "files", "paths", "documents", "control_characters"},
    **{name: {"types", "paths", "documents", "control_characters"} for name in ("metrics", "clip")},
    "world": {"types", "device"},
    "labels": {"types", "paths", "clip", "world", "metrics", "documents"},
    "data": {
        *("types", "paths", "clip", "world", "metrics", "device", "files", "mappings", "one_line_errors"),
        *("targets", "documents", "tables", "control_characters"),
    },
    **{name: {"types", "sae", "clip", "metrics", "labels"} | FORMULAS for name in FORMULAS},
    "module": {"types", "sae", "metrics", "mappings", "final_validation"},
}
"""Part of the library -> parts it may import; one that is not named is a tool and may import all of them."""


def imports(path: Path) -> Iterator[str]:
    """Absolute names of what a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(name: str) -> str:
    """`lightning_sae.clip.hooks.splice` -> `clip`; the version and the like belong to no part."""
    words = name.split(".")
    return words[1] if len(words) > 1 and words[1] in LIBRARY else ""


LIBRARY_FILES = sorted((ROOT / "lightning_sae").rglob("*.py"))


@pytest.mark.parametrize("path", LIBRARY_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_library_imports_downwards(path):
    own = path.relative_to(ROOT / "lightning_sae").parts[0].removesuffix(".py")
    ours = {part(name) for name in imports(path) if name.split(".")[0] == "lightning_sae"} - {"", own}
    assert ours <= MAY_IMPORT.get(own, LIBRARY)
    assert not any(name.split(".")[0] == "callbacks" for name in imports(path))


def test_the_formulas_import_each_other_without_circles():
    files = {name: ROOT / "lightning_sae" / f"{name}.py" for name in FORMULAS}
    edges = {
        name: {part(target) for target in imports(path) if target.startswith("lightning_sae.")} & FORMULAS
        for name, path in files.items()
        if path.exists()
    }
    while edges:
        free = [name for name, targets in edges.items() if not targets & edges.keys()]
        assert free, f"a circle among {sorted(edges)}"
        for name in free:
            del edges[name]


def test_train_imports_none_of_ours():
    assert not {name.split(".")[0] for name in imports(ROOT / "train.py")} & {"lightning_sae", "callbacks"}


def test_only_the_trackers_parts_name_a_tracker():
    files = [*LIBRARY_FILES, *(ROOT / "callbacks").glob("*.py"), ROOT / "train.py"]
    trackers = {path.stem for path in files if any("wandb" in name.lower() for name in imports(path))}
    assert trackers == {"tracking", "wandb_logger"}


def test_configurations_are_built_in_one_place():
    """There what a stranger's run may name is checked."""
    files = [*LIBRARY_FILES, *(ROOT / "callbacks").glob("*.py")]
    builders = {path.stem for path in files if any(name.startswith("hydra.utils") for name in imports(path))}
    assert builders == {"targets"}
