"""General vocabularies beside that of a run."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from lightning_sae.concepts.vocabulary import (
    Templates,
    Vocabulary,
    english_vocabulary,
    imagenet_vocabulary,
    vocabulary_from_file,
)

KNOWN: Mapping[str, Callable[..., Vocabulary]] = MappingProxyType(
    {"english": english_vocabulary, "imagenet": imagenet_vocabulary}
)


def general_vocabulary(name: str, templates: Templates = ("{}",)) -> Vocabulary:
    """Return a vocabulary by its name, or that of a text file with one label a line.

    Args:
        name: of `KNOWN`, or a path.
        templates: as in `Vocabulary`.

    Raises:
        ModuleNotFoundError: the package that has the words is not installed.
        FileNotFoundError: there is neither such a vocabulary nor such a file.
        ValueError: as `vocabulary_from_file`.

    Example:
        >>> general_vocabulary("imagenet").labels[0]
        'tench'
    """
    if name in KNOWN:
        return KNOWN[name](templates=templates)
    return vocabulary_from_file(name, templates)
