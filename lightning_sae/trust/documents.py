"""JSON and YAML that people wrote: a fault names file and line, and no file costs more than its size."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml.reader import ReaderError

MOST_ALIASED = 10_000
"""Values that the aliases of a YAML file may add to those that are written: a second of reading."""

MOST_NESTED = 100
"""Brackets in brackets of a YAML file."""

_STRING = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"
_NULL = "tag:yaml.org,2002:null"


def read_text(path: str | Path) -> str:
    """A UTF-8 file; a byte order mark at its start is left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not UTF-8; names the line.
    """
    content = Path(path).read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}, line {line}: the byte 0x{byte:02x} is not UTF-8; save the file as UTF-8"
        ) from error


def read_json(path: str | Path, needed: Sequence[str] = ()) -> dict[str, Any]:
    """A JSON object.

    Args:
        path: the file.
        needed: keys without which it is of no use.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, is no object, has a key twice, or lacks one.
    """
    text = read_text(path)
    try:
        content = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        ends = not text[error.pos :].strip() or error.msg.startswith("Unterminated")
        what = "the file ends too early" if ends else error.msg
        raise _fault(path, error.lineno, f"no JSON: {what}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {_reason(error)}; mend the file, or copy it again") from error
    if not isinstance(content, dict):
        raise _fault(path, 1, f"no JSON object, but a {type(content).__name__}")
    if missing := [key for key in needed if key not in content]:
        raise ValueError(f"{path} lacks {', '.join(missing)}; write or copy it again")
    return content


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML mapping whose keys and values are texts as they stand: `no`, `007`, `12:30` and `1e3` too.

    An empty value, `~` and `null` are `None`: somebody forgot it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, is no mapping, has a key twice, or its aliases multiply.
    """
    return cast(dict[str, Any], _texts(Path(path), yaml.MappingNode))


def read_yaml_list(path: str | Path) -> list[Any]:
    """A YAML list whose values are texts as they stand, as in `read_yaml`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, is no list, has a key twice, or its aliases multiply.
    """
    return cast(list[Any], _texts(Path(path), yaml.SequenceNode))


def read_config(path: str | Path) -> DictConfig:
    """A configuration as Hydra writes it, interpolations as they stand.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, is no mapping, has a key twice, or its aliases multiply.
    """
    text = read_text(path)
    _composed(_Loader, Path(path), text, yaml.MappingNode)
    try:
        return cast(DictConfig, OmegaConf.create(text))
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise _yaml_fault(Path(path), text, error) from error


def check_texts(what: str, values: Iterable[Any]) -> None:
    """Refuses what YAML or a command line has read as something else than a text.

    Args:
        what: holds them, for the message.
        values: of a user.

    Raises:
        ValueError: names the first that is no text.

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


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """Takes no more brackets in brackets than anybody writes: PyYAML's time grows with their square."""

    def fetch_flow_collection_start(self, token: Any) -> None:
        if self.flow_level >= MOST_NESTED:
            raise RecursionError
        super().fetch_flow_collection_start(token)


class _Texts(_Loader):
    """Knows aliases, merges and null, and takes everything else for a text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # as its base has it
        sign: [(tag, form) for tag, form in known if tag in (_MERGE, _NULL)]
        for sign, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _texts(path: Path, root: type[yaml.Node]) -> Any:
    text = read_text(path)
    loader, node = _composed(_Texts, path, text, root)
    try:
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise _yaml_fault(path, text, error) from error


def _composed(
    loader_of: type[_Loader], path: Path, text: str, root: type[yaml.Node]
) -> tuple[_Loader, yaml.Node]:
    """A loader, and the nodes of a file, with texts for keys, each there once, and few aliases."""
    try:
        loader = loader_of(text)
        node = loader.get_single_node()
        if not isinstance(node, root):
            got = "nothing" if node is None else f"a {node.id}"
            raise _fault(path, 1, f"a {root.id} is expected, got {got}")
        sizes: dict[int, int] = {}
        if _size(node, path, sizes) - len(sizes) > MOST_ALIASED:
            raise ValueError(f"{path}: its aliases add more than {MOST_ALIASED:,} values; write these out")
    except (yaml.YAMLError, RecursionError) as error:
        raise _yaml_fault(path, text, error) from error
    return loader, node


def _size(node: yaml.Node, path: Path, sizes: dict[int, int]) -> int:
    """Count the nodes that a node stands for, aliases written out; checks the keys on the way."""
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
    """An object of JSON, in which no key stands twice."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands there twice")
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
    return "its brackets are nested too deeply" if nested else str(error).partition("\n")[0]
