"""The vocabulary: the words that a latent may be labelled with, and their text embeddings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lightning_sae.data.images.class_names import readable
from lightning_sae.files import user_path
from lightning_sae.trust.documents import check_texts, read_text

ENSEMBLES = {"openai": "OPENAI_IMAGENET_TEMPLATES", "simple": "SIMPLE_IMAGENET_TEMPLATES"}
"""Prompt ensembles for ImageNet as open_clip ships them: 80 templates, and 7 that do nearly as well."""

Templates = Sequence[str] | Literal["openai", "simple"]


class TextEncoder(Protocol):
    """The part of a CLIP that a vocabulary needs."""

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return the unit embeddings `[m, d]` of `m` texts."""
        ...


class EmbeddedVocabulary(NamedTuple):
    """A vocabulary as one CLIP sees it.

    Attributes:
        labels: the `V` labels, each once.
        texts: `[V, d]` unit embeddings, in the order of the labels.
        empty: `[d]` unit embedding of the empty prompt: the same templates around no label.
    """

    labels: list[str]
    texts: Tensor
    empty: Tensor

    def to(self, like: Tensor) -> Self:
        """Return it with embeddings of the type and on the device of a tensor."""
        return self._replace(texts=self.texts.to(like), empty=self.empty.to(like))


class Vocabulary:
    """Labels and the templates that make prompts of them.

    With several templates a label's embedding is the normalised mean of the unit embeddings of its prompts
    (Radford et al. 2021, arXiv 2103.00020, section 3.1.4).

    Args:
        labels: the labels, made `readable` as names of classes are; a repeated one counts once, at its first
            place. `None`: the labels of the data.
        templates: each with exactly one `{}`, where the label goes; or a name of `ENSEMBLES`.

    Raises:
        ValueError: no labels, a blank label, no templates, a template without exactly one `{}`.

    Example:
        >>> len(Vocabulary(["cat"], "simple").templates)
        7
    """

    def __init__(self, labels: Sequence[str] | None = None, templates: Templates = ("{}",)) -> None:
        self.labels = None if labels is None else _checked_labels(labels)
        self.templates = _checked_templates(templates)

    def choose(self, default_labels: Sequence[str]) -> list[str]:
        """Return the vocabulary's labels, or `default_labels` where it has none; repeated ones once."""
        return self.labels if self.labels is not None else _checked_labels(default_labels)

    def embed(self, clip: TextEncoder, default_labels: Sequence[str]) -> EmbeddedVocabulary:
        """Embed the labels, or `default_labels` where the vocabulary has none of its own."""
        labels = self.choose(default_labels)
        embeddings = embed_labels(clip, [*labels, ""], self.templates)
        return EmbeddedVocabulary(labels, embeddings[:-1], embeddings[-1])


def imagenet_vocabulary(templates: Templates = "openai") -> Vocabulary:
    """Return ImageNet's class names as open_clip ships them.

    There are 998 names, as two of the 1,000 stand for two classes each.

    Example:
        >>> imagenet_vocabulary().labels[:2]
        ['tench', 'goldfish']
    """
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    return Vocabulary(IMAGENET_CLASSNAMES, templates)


def english_vocabulary(
    categories: Sequence[str] = ("noun", "adjective"), templates: Templates = ("{}",)
) -> Vocabulary:
    """Return English words of the package wonderwords (MIT).

    It has some 6,800 nouns, 900 adjectives and 1,000 verbs.

    Args:
        categories: of `noun`, `adjective` and `verb`; a word of several counts once.
        templates: as in `Vocabulary`.

    Raises:
        ModuleNotFoundError: the package is not installed.
        ValueError: a category that the package does not have.
    """
    try:
        from wonderwords import Defaults, RandomWord, filter_profanity
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the English vocabulary comes from the package wonderwords, which is not installed: "
            "pip install 'lightning_sae[words]'"
        ) from error
    known = {"noun": Defaults.NOUNS, "adjective": Defaults.ADJECTIVES, "verb": Defaults.VERBS}
    if isinstance(categories, str) or not set(categories) <= set(known):
        raise ValueError(f"categories must be a list of {', '.join(known)}; got {categories!r}")
    words = RandomWord(enhanced_prefixes=False, **{name: known[name] for name in categories})
    return Vocabulary(list(filter_profanity(words.filter())), templates)


def vocabulary_from_file(path: str | Path, templates: Templates = ("{}",)) -> Vocabulary:
    """Read a vocabulary from a UTF-8 text file with one label a line.

    Labels are made `readable`, repeated ones are merged. Every line is a label: there are no comments.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is empty, has a blank line, or is not UTF-8.
    """
    lines = read_text(user_path(path)).removesuffix("\n").split("\n")
    if lines == [""]:
        raise ValueError(f"{path} holds no labels: write one label a line")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise ValueError(f"{path}, line {number} is blank: every line is a label, remove the line")
    return Vocabulary(lines, templates)


def embed_labels(clip: TextEncoder, labels: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Embed labels: mean of the unit embeddings over the templates, renormalised.

    Returns:
        `[V, d]` unit embeddings.
    """
    prompts = ([template.replace("{}", label).strip() for label in labels] for template in templates)
    total = sum((clip.encode_text(texts) for texts in prompts), start=torch.zeros(()))
    return normalize(total, dim=-1)


def _checked_labels(labels: Sequence[str]) -> list[str]:
    if isinstance(labels, str):
        raise ValueError(f"labels must be a list of labels, got the text {labels!r}: write [{labels!r}]")
    check_texts("the vocabulary", labels)
    names = [readable(label) for label in labels]
    if not names:
        raise ValueError(
            "the vocabulary is empty: give at least one label, or null for the labels of the data"
        )
    if "" in names:
        raise ValueError(f"label {names.index('')} of the vocabulary is blank: remove it")
    return list(dict.fromkeys(names))


def _checked_templates(templates: Sequence[str]) -> list[str]:
    if isinstance(templates, str):
        if templates in ENSEMBLES:
            from open_clip import zero_shot_metadata

            return [template("{}") for template in getattr(zero_shot_metadata, ENSEMBLES[templates])]
        raise ValueError(
            f"templates must be a list or one of {', '.join(ENSEMBLES)}, got the text {templates!r}: "
            f"write [{templates!r}]"
        )
    if not templates:
        raise ValueError('there are no templates: give at least one, such as "{}"')
    check_texts("the list of templates", templates)
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"a template holds {{}} exactly once, where the label goes; got {template!r}")
    return list(templates)
