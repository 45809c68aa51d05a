"""Texts as examples: lists of them, files with one a line, and prompts made of a vocabulary."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from lightning_sae.data.images.image_set import ImageSource, Split, digest
from lightning_sae.data.text_datamodule import TextDataModule
from lightning_sae.trust.documents import read_text


class Prompted(Protocol):
    """The part of a vocabulary that is needed: labels and the templates that make prompts of them."""

    templates: list[str]

    def choose(self, default_labels: Sequence[str]) -> list[str]:
        """Return the labels, or the default ones."""
        ...


class Texts:
    """One split of texts, in the place of an `ImageSet`; what is asked for by an index is a string.

    Args:
        name: of the split, for its folder in the store.
        texts: the texts.
        class_names: the classes that they are scored against.
        targets: `[n]` int64, the class that each text names, -1 for none.
        vocabulary: labels worth trying for a latent; `None`: the class names.
        factors: what else is known, as in `ImageSet`.

    Raises:
        ValueError: no texts, or a blank one.
    """

    def __init__(
        self,
        name: str,
        texts: Sequence[str],
        class_names: Sequence[str],
        targets: Tensor,
        vocabulary: Sequence[str] | None = None,
        factors: Mapping[str, tuple[list[str], Tensor]] | None = None,
    ) -> None:
        if not texts or not all(text.strip() for text in texts):
            raise ValueError(f"{name} must hold at least one text and no blank one, got {list(texts)[:10]}")
        self.name, self.texts = name, list(texts)
        self.class_names, self.targets = list(class_names), targets
        self.vocabulary = list(vocabulary or class_names)
        self.factors = dict(factors or {})

    @property
    def captions(self) -> list[str]:
        """The texts: each is its own caption."""
        return self.texts

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> Any:
        """Return a text; what an `ImageSet` has here is an image."""
        return self.texts[index]

    def identity(self) -> dict[str, Any]:
        """Name and content."""
        return {"name": self.name, "texts": digest(self.texts), "n": len(self)}


class SplitTexts:
    """Texts split by a hash of each, so that the same text is never in two splits.

    Args:
        name: of the data set.
        texts: all texts; a repeated one counts once.
        class_names: the classes that they are scored against; a text belongs to the one that it names.
        val_fraction: share that becomes `val`, in [0, 1).
        test_fraction: share that becomes `test`, in [0, 1).
        seed: another seed holds out other texts.

    Raises:
        ValueError: fractions out of range.
    """

    def __init__(
        self,
        name: str,
        texts: Sequence[str],
        class_names: Sequence[str],
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        seed: int = 0,
    ) -> None:
        if min(val_fraction, test_fraction) < 0 or val_fraction + test_fraction >= 1:
            raise ValueError(
                f"val_fraction and test_fraction must be >= 0 and sum to less than 1, got {val_fraction} and "
                f"{test_fraction}"
            )
        self.name, self.class_names = name, list(class_names)
        order = sorted(dict.fromkeys(texts), key=lambda text: _hash(seed, text))
        n_val, n_test = (round(share * len(order)) for share in (val_fraction, test_fraction))
        self._splits = {
            "val": order[:n_val],
            "test": order[n_val : n_val + n_test],
            "train": order[n_val + n_test :],
        }

    def split(self, name: Split) -> Texts:
        """Return the texts of one split."""
        texts = self._splits[name]
        if not texts:
            raise ValueError(f"the {name} split of {self.name} is empty: raise {name}_fraction or add texts")
        return Texts(f"{self.name}-{name}", texts, self.class_names, mentioned(texts, self.class_names))


def read_texts(path: str | Path) -> list[str]:
    """Return the lines of a UTF-8 file; space around a text is dropped, blank lines are skipped.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no text, or is not UTF-8.
    """
    lines = read_text(Path(path).expanduser()).splitlines()
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise ValueError(f"{path} holds no text: write one a line")
    return texts


def vocabulary_prompts(vocabulary: Prompted, default_labels: Sequence[str]) -> list[str]:
    """Return every label of a vocabulary in every template.

    Example:
        >>> from lightning_sae.concepts.vocabulary import Vocabulary
        >>> vocabulary_prompts(Vocabulary(["cat", "dog"], ["a {}", "{}"]), [])
        ['a cat', 'cat', 'a dog', 'dog']
    """
    labels = vocabulary.choose(default_labels)
    return [template.replace("{}", label) for label in labels for template in vocabulary.templates]


def mentioned(texts: Sequence[str], phrases: Sequence[str]) -> Tensor:
    """Return the one phrase that each text contains as whole words.

    Returns:
        `[n]` int64 index into the phrases, -1 where there is none or more than one.

    Example:
        >>> mentioned(["a red cat", "a cat and a dog", "a catfish"], ["cat", "dog"]).tolist()
        [0, -1, -1]
    """
    spaced = [f" {phrase} " for phrase in phrases]
    found = [[i for i, phrase in enumerate(spaced) if phrase in f" {text} "] for text in texts]
    return torch.tensor([hits[0] if len(hits) == 1 else -1 for hits in found], dtype=torch.int64)


def _hash(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed}:{text}".encode()).digest()


def text_file(
    path: str,
    images: ImageSource,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
    **activations: Any,
) -> TextDataModule:
    """Return the lines of a file, scored against some images."""
    names = images.split("val").class_names
    held_out = (val_fraction, test_fraction, split_seed)
    return TextDataModule(SplitTexts("text-file", read_texts(path), names, *held_out), images, **activations)


def vocabulary(
    vocabulary: Prompted,
    images: ImageSource,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
    **activations: Any,
) -> TextDataModule:
    """Return the labels of a vocabulary in all its templates, scored against some images."""
    val = images.split("val")
    prompts = vocabulary_prompts(vocabulary, val.vocabulary)
    texts = SplitTexts("vocabulary", prompts, val.class_names, val_fraction, test_fraction, split_seed)
    return TextDataModule(texts, images, **activations)
