"""Building the targets of a configuration: all of the user's own, a short list from a stranger's."""

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lightning_sae.trust.causes import cause_of

OURS = frozenset(
    f"lightning_sae.{name}"
    for name in (
        "clip.load_clip",
        "data.FashionMNIST",
        "data.HuggingFaceImages",
        "data.ImageFolders",
        "data.ImageTable",
        "data.WorldImages",
        "data.fashion_mnist",
        "data.huggingface",
        "data.image_folder",
        "data.table",
        "data.text_file",
        "data.vocabulary",
        "data.world",
        "data.world_captions",
        "data.world_joint",
        "concepts.vocabulary.Vocabulary",
        "concepts.vocabulary.english_vocabulary",
        "concepts.vocabulary.imagenet_vocabulary",
        "concepts.vocabulary.vocabulary_from_file",
        "composing.given.given",
        "pairs.counterfactuals.Counterfactuals",
        "pairs.edited_pairs.EditedPairs",
        "pairs.edits.OtherBackground",
        "pairs.edits.Patch",
        "pairs.edits.PrintedWord",
        "pairs.edits.Tint",
        "pairs.pair_table.PairTable",
        "world.config_path",
        "world.weights_path",
    )
)
"""Data sets, CLIPs, vocabularies, sources of pairs, and `given`, which stands for an object of Python.

Other parts of this package write files, so they are not in this list.
"""

T = TypeVar("T")

MOST_ADDED = 10_000
"""Largest number of values that interpolations may add: a second of resolving."""


def instantiate(config: Any, trusted: Sequence[str] | None, **settings: Any) -> Any:
    """Build the object that a configuration names; this is the only place where the library does so.

    Args:
        config: configuration with a `_target_`; the target gets containers as plain ones.
        trusted: packages or single targets, such as `my_package` or `my_package.MyImages`, that may be named
            beside `OURS`; `None` for a configuration of the user's own, which may name anything.
        settings: further arguments of the target.

    Raises:
        ValueError: a target may not be named, which is checked before anything is imported; or the
            configuration is larger than any should be.
        Exception: the error that a target raises, without the wrapping of Hydra.

    Example:
        >>> str(instantiate({"_target_": "lightning_sae.world.config_path"}, trusted=()).name)
        'world.json'
        >>> instantiate({"_target_": "pandas.read_pickle"}, trusted=())
        Traceback (most recent call last):
        ValueError: the configuration names pandas.read_pickle, ...
    """
    if trusted is not None:
        config = _resolved(config)
        for node in _values(config):
            if isinstance(node, dict) and "_target_" in node:
                _check(str(node["_target_"]), trusted)
    try:
        with _whitelisted(trusted):
            return hydra.utils.instantiate(config, _convert_="all", **settings)
    except InstantiationException as error:
        raise cause_of(error) from None
    except TypeError as error:  # of Hydra's own: those of a target come wrapped
        raise ValueError(f"the configuration cannot be built: {error}") from error


def instantiate_as(kind: type[T], config: DictConfig, key: str, trusted: Sequence[str] | None) -> T:
    """Build the object that a configuration names under a key.

    Args:
        kind: type that the object must have.
        config: the whole configuration.
        key: key of the part that is built.
        trusted: see `instantiate`.

    Raises:
        ValueError: the target may not be named, is missing, or gives an object of another type.

    Example:
        >>> instantiate_as(str, OmegaConf.create({"data": 5}), "data", trusted=())
        Traceback (most recent call last):
        ValueError: the _target_ of data in the configuration must give an object of str, got 5; ...
    """
    found = config.get(key)
    built = instantiate(found, trusted) if isinstance(found, DictConfig) else found
    if not isinstance(built, kind):
        raise ValueError(
            f"the _target_ of {key} in the configuration must give an object of {kind.__name__}, got "
            f"{built!r:.100}; copy the configuration of the run again"
        )
    return built


def import_trusted(config: DictConfig, key: str, trusted: Sequence[str] | None) -> None:
    """Import the target that a configuration names under a key, if a user trusts it; else do nothing.

    Raises:
        ValueError: the target is not of a trusted package.
    """
    found = config.get(key)
    if trusted and isinstance(found, DictConfig):
        target = str(_resolved(found).get("_target_"))
        if any(_inside(target, package) for package in trusted):
            _check(target, trusted)


def import_parts(names: Sequence[str]) -> None:
    """Import modules, or single parts of them, that a user names, which makes their SAE variants known.

    Raises:
        ValueError: there is no module or part of that name.

    Example:
        >>> import_parts(["lightning_sae.nowhere"])
        Traceback (most recent call last):
        ValueError: cannot import lightning_sae.nowhere: ...
    """
    for name in names:
        try:
            hydra.utils.get_object(name)
        except (ImportError, ValueError) as error:
            raise ValueError(f"cannot import {name}: {error}; is its folder on PYTHONPATH?") from error


def _resolved(config: Any) -> Any:
    """Return plain containers with interpolations resolved, so that the checked values are those built."""
    try:
        config = OmegaConf.create(config) if isinstance(config, dict) else config
        written = list(_values(OmegaConf.to_container(config._get_root(), resolve=False)))
        counts = (value.count("${") for value in written if isinstance(value, str))
        if math.prod(count for count in counts if count) > MOST_ADDED:
            raise ValueError("texts of the configuration interpolate too many others: write their values")
        return _plain(config, iter(range(len(written) + MOST_ADDED)))
    except (OmegaConfBaseException, RecursionError) as error:
        raise ValueError(f"the configuration cannot be resolved: {error}") from error


def _plain(node: Any, budget: Iterator[int]) -> Any:
    if next(budget, None) is None:
        raise ValueError(f"interpolations of the configuration add more than {MOST_ADDED:,} values to it")
    if isinstance(node, DictConfig):
        return {key: _plain(node[key], budget) for key in node}
    if isinstance(node, ListConfig):
        return [_plain(item, budget) for item in node]
    if isinstance(node, str) and "${" in node:
        raise ValueError(f"the configuration has an escaped interpolation, {node!r}: write the value itself")
    return node


def _values(config: Any) -> Iterator[Any]:
    """Yield the plain containers, and everything in them."""
    yield config
    if isinstance(config, dict | list):
        for child in config.values() if isinstance(config, dict) else config:
            yield from _values(child)


def _check(target: str, trusted: Sequence[str]) -> None:
    if target in OURS:
        return
    if not any(_inside(target, package) for package in trusted):
        raise ValueError(
            f"the configuration names {target}, which came with the folder and would be run; nothing was. "
            "Without a word from you only data sets, CLIPs and vocabularies of lightning_sae are built. If "
            f"you know {target} and who made this folder, allow it with --trust {target}"
        )
    found = hydra.utils.get_object(target)
    home = f"{getattr(found, '__module__', None)}.{getattr(found, '__qualname__', None)}"
    if not any(_inside(home, package) for package in trusted):
        raise ValueError(
            f"the configuration names {target}, which is {home} and not of {', '.join(trusted)}; it was not "
            f"run. If that is meant, let the configuration name it so, and allow it with --trust {home}"
        )


def _inside(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _whitelisted(trusted: Sequence[str] | None) -> Any:
    """Return the context of Hydra's own list of allowed targets, which Hydra needs from version 1.4 on.

    This module checks the targets before Hydra does.
    """
    whitelist = getattr(hydra.utils, "execution_whitelist", None)
    if whitelist is None:
        return nullcontext()
    if trusted is None:
        return whitelist(getattr(hydra.utils, "UNSAFE_DISABLE_EXECUTION_CHECKS"))  # noqa: B009
    patterns = [pattern for name in trusted for pattern in (name, f"{name}.*")]
    return whitelist(["lightning_sae.*", *patterns], reset=True)
