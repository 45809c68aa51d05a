"""What users call their classes: in the configuration, or in a file."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_sae.data.images.class_names import readable
from lightning_sae.data.images.image_set import listed
from lightning_sae.trust.documents import (
    check_texts,
    read_json,
    read_json_list,
    read_text,
    read_yaml,
    read_yaml_list,
)

Classes = Sequence[str] | Mapping[str, str] | Mapping[str | int, str] | None
"""Names of classes: in their order, or by the value that a data set has for each."""


def given_classes(classes: Classes | str | Path) -> Classes:
    """Return what `data.classes` says, read from a file if it names one, with readable names.

    A `.json` or `.yaml` file holds a list of names, or `{CODE: NAME}`; any other file a line `CODE NAME` per
    class, the code without spaces, as ImageNet's `LOC_synset_mapping.txt` has it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: something else is in it; a list that names a class twice; codes with two names.

    Example:
        >>> given_classes({"mel": "melanoma", "nv": "melanocytic_nevus"})
        {'mel': 'melanoma', 'nv': 'melanocytic nevus'}
    """
    if isinstance(classes, str | Path):
        path = Path(classes).expanduser()
        return _checked(_read(path), str(path))
    return _checked(classes, "data.classes")


def _checked(classes: Any, where: str) -> Classes:
    if classes is None:
        return None
    if not isinstance(classes, Sequence | Mapping) or isinstance(classes, str):
        raise ValueError(f"{where} must be a list of names, {{CODE: NAME}} or a file, got {classes!r}")
    check_given(classes, where)
    if isinstance(classes, Mapping):
        return _checked_codes([(str(code), name) for code, name in classes.items()], where)
    names = [readable(name) for name in classes]
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise ValueError(f"{where} names {len(twice)} classes twice:{listed(twice)}\nName each once")
    return names


def check_given(classes: Sequence[Any] | Mapping[Any, Any], where: str) -> None:
    """Refuse blanks, names that are no texts, and codes that are neither texts nor whole numbers.

    Raises:
        ValueError: names the first.
    """
    if isinstance(classes, Mapping):
        others = [code for code in classes if isinstance(code, bool) or not isinstance(code, int)]
        check_texts(where, [*classes.values(), *others])
    else:
        check_texts(where, classes)
    names = classes if isinstance(classes, Mapping) else dict(enumerate(classes))
    for code, name in names.items():
        if not readable(str(code)) or not readable(name):
            raise ValueError(f"{where} has a blank in {code!r}: {name!r}; give each class a name")


def _checked_codes(pairs: Sequence[tuple[str, str]], where: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for code, name in pairs:
        if found.setdefault(readable(code), readable(name)) != readable(name):
            raise ValueError(
                f"{where} gives {code!r} two names, {found[readable(code)]!r} and {name!r}: keep one"
            )
    return found


def _read(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(
            f"no file {path}: data.classes is a list of names, {{CODE: NAME}}, or a file of it"
        )
    text, ending = read_text(path), path.suffix.lower()
    if ending == ".json":
        return read_json_list(path) if _is_list(text) else read_json(path)
    if ending in (".yaml", ".yml"):
        return read_yaml_list(path) if _is_list(text) else read_yaml(path)
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    if short := [number for number, line in enumerate(lines, 1) if len(line) < 2]:
        raise ValueError(f"{path}, line {short[0]}: expected a code and a name, got one word")
    return _checked_codes([(code, name) for code, name in lines], str(path))


def _is_list(text: str) -> bool:
    """Tell whether the first line of YAML or JSON that says something begins a list."""
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and not line.startswith("#") and line != "---"), "")
    return first.startswith(("-", "["))
