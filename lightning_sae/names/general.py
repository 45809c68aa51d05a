"""General vocabularies, which can be used beside the vocabulary of a run."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from lightning_sae.concepts.vocabulary import (
    Templates,
    Vocabulary,
    english_vocabulary,
    imagenet_vocabulary,
    vocabulary_from_file,
)
from lightning_sae.trust.documents import read_text

WORDNET = Path("/usr/share/wordnet")
"""Folders where systems put WordNet; `WNSEARCHDIR` names another, as for WordNet's own programs."""


def wordnet_vocabulary(templates: Templates = ("{}",)) -> Vocabulary:
    """Return the nouns of WordNet (Fellbaum 1998), with their hypernyms, which are nouns as well.

    WordNet 3.0 has 117,798 nouns, proper names included.

    Args:
        templates: as in `Vocabulary`.

    Raises:
        FileNotFoundError: WordNet is not installed.
    """
    index = Path(os.environ.get("WNSEARCHDIR", WORDNET)) / "index.noun"
    if not index.is_file():
        raise FileNotFoundError(
            f"WordNet is not at {index.parent}: apt install wordnet-base, or say where its index.noun lies "
            "with the environment variable WNSEARCHDIR"
        )
    lines = read_text(index).splitlines()
    nouns = [line.partition(" ")[0].replace("_", " ") for line in lines if not line.startswith(" ")]
    return Vocabulary(nouns, templates)


KNOWN: Mapping[str, Callable[..., Vocabulary]] = MappingProxyType(
    {"english": english_vocabulary, "imagenet": imagenet_vocabulary, "wordnet": wordnet_vocabulary}
)


def general_vocabulary(name: str, templates: Templates = ("{}",)) -> Vocabulary:
    """Return a vocabulary by its name, or the vocabulary of a text file with one label per line.

    Args:
        name: a name of `KNOWN`, or the path of a text file.
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
