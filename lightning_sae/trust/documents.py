"""JSON and YAML that people wrote: errors name file and line, and no file costs more than its size."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError
from yaml.reader import ReaderError

MOST_ALIASED = 10_000
"""Largest number of values that the aliases of a YAML file may add: a second of reading."""

MOST_NESTED = 50
"""Largest depth of values within values in a YAML file."""

NO_VALUE = (ValueError, TypeError, LookupError, AttributeError)
"""Errors of PyYAML and OmegaConf where a text is no value of its kind."""

NO_CONFIG = (*NO_VALUE, yaml.YAMLError, OmegaConfBaseException, RecursionError)
"""Errors of OmegaConf where a text is no configuration."""

_STRING = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"
_NULL = "tag:yaml.org,2002:null"
_CALLED = {dict: "an object", list: "a list", str: "a text", int: "a whole number"}
_HALF = re.compile("[\ud800-\udfff]")


def read_bytes(path: str | Path) -> bytes:
    """Return the content of a file; folders, pipes and devices are not opened, as a pipe may never answer.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a folder, a pipe or a device.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is a folder, a pipe or a device: name a file")
    return path.read_bytes()


def read_text(path: str | Path) -> str:
    """Return a UTF-8 file's text; a byte order mark at its start is left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no file, or not UTF-8; the message names the line.
    """
    content = read_bytes(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}, line {line}: the byte 0x{byte:02x} is not UTF-8; save the file as UTF-8"
        ) from error


def read_json(path: str | Path, needed: Sequence[str] | Mapping[str, type] = ()) -> dict[str, Any]:
    """Return a JSON object.

    Args:
        path: the file.
        needed: keys that the object must have; a mapping also gives the types of their values.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, is no object, has a key twice, lacks one, or has a value of another type.
    """
    content = _json(path)
    if not isinstance(content, dict):
        raise _fault(path, 1, f"no JSON object, but a {type(content).__name__}")
    if missing := [key for key in needed if key not in content]:
        raise ValueError(f"{path} lacks {', '.join(missing)}; write or copy it again")
    for key, kind in needed.items() if isinstance(needed, Mapping) else ():
        if not isinstance(content[key], kind):
            raise ValueError(f"{path}: {key} must be {_CALLED[kind]}, got {content[key]!r:.100}")
    return content


def read_json_list(path: str | Path) -> list[Any]:
    """Return a JSON list.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, is no list, or has a key twice.
    """
    content = _json(path)
    if not isinstance(content, list):
        raise _fault(path, 1, f"no JSON list, but a {type(content).__name__}")
    return content


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Return a YAML mapping whose keys and values are texts as they stand: also `no`, `007`, `12:30`, `1e3`.

    An empty value, `~` and `null` are `None`: somebody forgot it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, is no mapping, has a key twice, or its aliases multiply.
    """
    return cast(dict[str, Any], _texts(Path(path), yaml.MappingNode))


def read_yaml_list(path: str | Path) -> list[Any]:
    """Return a YAML list whose values are texts as they stand, as in `read_yaml`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, is no list, has a key twice, or its aliases multiply.
    """
    return cast(list[Any], _texts(Path(path), yaml.SequenceNode))


def read_config(path: str | Path) -> DictConfig:
    """Return a configuration as Hydra writes it, interpolations as they stand.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, is no mapping, has a key twice, or its aliases multiply.
    """
    _texts(Path(path), yaml.MappingNode)
    text = read_text(path)
    try:
        return cast(DictConfig, OmegaConf.create(text))
    except NO_CONFIG as error:
        raise _yaml_fault(Path(path), text, error) from error


def check_texts(what: str, values: Iterable[Any]) -> None:
    """Refuse values that YAML or a command line did not read as texts, and texts with surrogates.

    Args:
        what: name of the setting that holds the values, for the message.
        values: values of a user.

    Raises:
        ValueError: a value is no whole text; the message names the first such value.

    Example:
        >>> check_texts("data.classes", ["yes", False])
        Traceback (most recent call last):
        ValueError: data.classes holds False, which is no text: ...
    """
    for value in values:
        if not isinstance(value, str):
            raise ValueError(
                f"{what} holds {value!r}, which is no text: YAML reads no, 007, 12:30 and 1e3 as other "
                'things; put it into quotes, on the command line as \'data.classes=["1","2"]\''
            )
        if _HALF.search(value):
            raise ValueError(f"{what} holds {value!r}, which has half of a character: write all of it")


class _Texts(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """A loader that knows aliases, merges and null, and reads every other scalar without a tag as a text."""

    depth = 0
    yaml_implicit_resolvers = {  # noqa: RUF012  # as its base has it
        sign: [(tag, form) for tag, form in known if tag in (_MERGE, _NULL)]
        for sign, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Return the next value; refuse values that are nested deeper than anybody writes."""
        self.depth += 1
        if self.depth > MOST_NESTED:
            problem = f"there are more than {MOST_NESTED} values in each other"
            raise ComposerError(None, None, problem, self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Return the value that a node stands for."""
        try:
            return super().construct_object(node, deep)
        except NO_VALUE as error:
            problem = f"{node.value!r:.100} is no {node.tag.rpartition(':')[2]}"
            raise ConstructorError(None, None, problem, node.start_mark) from error


def _texts(path: Path, root: type[yaml.Node]) -> Any:
    """Return a YAML file's values as texts; its keys must be texts that occur once, and its aliases few."""
    text = read_text(path)
    try:
        loader = _Texts(text)
        node = loader.get_single_node()
        if not isinstance(node, root):
            got = "nothing" if node is None else f"a {node.id}"
            raise _fault(path, 1, f"a {root.id} is expected, got {got}")
        sizes: dict[int, int] = {}
        if _size(node, path, sizes) - len(sizes) > MOST_ALIASED:
            raise ValueError(f"{path}: its aliases add more than {MOST_ALIASED:,} values; write these out")
        return loader.construct_document(node)
    except (yaml.YAMLError, RecursionError) as error:
        raise _yaml_fault(path, text, error) from error


def _json(path: str | Path) -> Any:
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        ends = not text[error.pos :].strip() or error.msg.startswith("Unterminated")
        what = "the file ends too early" if ends else error.msg
        raise _fault(path, error.lineno, f"no JSON: {what}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {_reason(error)}; mend the file, or copy it again") from error


def _size(node: yaml.Node, path: Path, sizes: dict[int, int]) -> int:
    """Count the nodes that a node stands for, with aliases written out, and check the keys on the way."""
    if (known := sizes.get(id(node))) is not None:
        if known == 0:
            raise _fault(path, node.start_mark.line + 1, "an alias stands inside what it stands for")
        return known
    sizes[id(node)] = 0
    parts: list[yaml.Node] = node.value if isinstance(node, yaml.SequenceNode) else []
    if isinstance(node, yaml.MappingNode):
        _check_keys(node, path)
        parts = [part for pair in node.value for part in pair]
    sizes[id(node)] = 1 + sum(_size(part, path, sizes) for part in parts)
    return sizes[id(node)]


def _check_keys(node: yaml.MappingNode, path: Path) -> None:
    seen = set()
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise _fault(path, line, f"a key is a text, got a {key.id}")
        if key.value in seen:
            raise _fault(path, line, f"the key {key.value!r} stands there twice")
        seen.add(key.value)
        key.tag = key.tag if key.tag == _MERGE else _STRING


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object from its pairs; refuse a key that occurs twice."""
    content = dict(pairs)
    if len(content) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice!r} stands there twice")
    return content


def _yaml_fault(path: Path, text: str, error: Exception) -> ValueError:
    if isinstance(error, ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return _fault(path, line, f"the character {chr(error.character)!r} is not allowed in YAML")
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        ends = not text[error.problem_mark.index :].strip("\0 \n")
        what = f"{error.problem}{', the file may be cut off' if ends else ''}"
        return _fault(path, error.problem_mark.line + 1, what)
    return ValueError(f"{path}: {_reason(error)}; mend the file, or copy it again")


def _fault(path: str | Path, line: int, what: str) -> ValueError:
    return ValueError(f"{path}, line {line}: {what}; mend the file, or copy it again")


def _reason(error: Exception) -> str:
    nested = isinstance(error, RecursionError)
    return "it is nested too deeply" if nested else str(error).partition("\n")[0]
