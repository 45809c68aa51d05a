"""Columns of a data set: what they are called, and their values as classes, known truth and splits."""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_sae.data.images.class_names import merged, readable, wordnet_names
from lightning_sae.data.images.image_set import Split, listed
from lightning_sae.data.sources.given_classes import Classes, check_given
from lightning_sae.data.sources.splits import ALIASES, split_of
from lightning_sae.trust.control_characters import warn
from lightning_sae.trust.documents import check_texts

_SEVERAL = re.compile(r"\s*(\[.*\]|\(.*,.*\)|\{.*[:,].*\})\s*", re.DOTALL)
"""A list, tuple or mapping, as Python and JSON write it."""

_WHOLE = re.compile(r"[+-]?\d+\.0+")
"""A whole number, as a column of floating point has it."""


class Names(NamedTuple):
    """The columns of a data set, by what they say.

    Attributes:
        image: the picture, or its path.
        label: the class; `None` where there is none.
        groups: further truth, each a factor.
        classes: names of the classes, or what each value of the label is called, as `{"mel": "melanoma"}`;
            `None` takes them from the labels.
    """

    image: str = "image"
    label: str | None = "label"
    groups: Sequence[str] = ()
    classes: Classes = None

    @property
    def known(self) -> list[str]:
        """The columns that say something of an image."""
        return [*([] if self.label is None else [self.label]), *self.groups]


class Column(NamedTuple):
    """The values of a column.

    Attributes:
        values: those that differ, as text.
        codes: `[n]` int64, which of them each row has, -1 for none.
    """

    values: list[str]
    codes: NDArray[np.int64]

    @classmethod
    def of(cls, content: Any, where: str = "a column", first_row: int = 1) -> "Column":
        """Return the column of an array; nulls, NaN and empty texts are none, bytes are UTF-8.

        Args:
            content: its values.
            where: for messages.
            first_row: what the first row is called in messages.

        Raises:
            ValueError: a row has several values, or bytes that are no UTF-8.

        Example:
            >>> Column.of(["b", None, "a", "", "b"])
            Column(values=['b', 'a'], codes=array([ 0, -1,  1, -1,  0]))
        """
        try:
            codes, distinct = pd.factorize(pd.Series(content))
        except (TypeError, NotImplementedError):  # of lists, in Python and in Arrow
            codes, distinct = np.arange(len(content)), content
        texts = []
        for code, value in enumerate(distinct):
            try:
                texts.append(_text(value))
            except ValueError as error:
                row = int(np.flatnonzero(codes == code)[0]) + first_row
                raise ValueError(f"{where}, row {row} has {error}") from error
        return cls(texts, codes.astype(np.int64))._called(texts)

    def take(self, rows: NDArray[np.int64]) -> "Column":
        """Return the column of some rows, with only the values that these rows have."""
        used, codes = np.unique(self.codes[rows], return_inverse=True)
        known = used[used >= 0]
        return Column([self.values[i] for i in known], codes.astype(np.int64) - (len(used) - len(known)))

    def texts(self, rows: NDArray[np.int64]) -> list[str]:
        """Return the text of each of some rows; "" for none.

        Example:
            >>> Column.of(["b", None, "a"]).texts(np.array([2, 1]))
            ['a', '']
        """
        return [self.values[code] if code >= 0 else "" for code in self.codes[rows].tolist()]

    def as_labels(self, where: str, given: Classes = None) -> "Column":
        """Return the column as classes of images: whole numbers without decimals; blanks and -1 are no class.

        Args:
            where: for messages.
            given: what the user said; a value that stands there stays as it is.

        Raises:
            ValueError: a value is a list, tuple or mapping, written as text.

        Example:
            >>> import warnings
            >>> with warnings.catch_warnings(action="ignore"):
            ...     Column.of(["1.0", "-1", "0.0", " "]).as_labels("x.csv")
            Column(values=['1', '0'], codes=array([ 0, -1,  1, -1]))
        """
        named = {str(each) for each in given or ()}
        if several := [value for value in self.values if value not in named and _SEVERAL.fullmatch(value)]:
            row = int(np.flatnonzero(self.codes == self.values.index(several[0]))[0])
            raise ValueError(f"{where}, row {row + 1} has {_listing(several[0])}")
        texts = {value: value if value in named else _as_class(value) for value in self.values}
        if lost := [f"{self.count(value)} rows have {value!r}" for value, text in texts.items() if not text]:
            warn(f"{where}: {', '.join(lost)}, which is taken as no class", stacklevel=4)
        return self._called([*texts.values()])

    def _called(self, texts: Sequence[str]) -> "Column":
        """Return the column with other texts for its values; equal texts become one value, and "" is none."""
        places, values = pd.factorize(np.array([text or None for text in texts], dtype=object))
        return Column([*values], np.append(places, -1)[self.codes].astype(np.int64))

    def count(self, value: str) -> int:
        """Return how many rows have a value."""
        return int((self.codes == self.values.index(value)).sum())

    def factor(self) -> tuple[list[str], Tensor]:
        """Return known truth: the sorted values, and the index of each row's, `[n]` int64, -1 for none.

        Example:
            >>> Column.of(["water", None, "land"]).factor()
            (['land', 'water'], tensor([ 1, -1,  0]))
        """
        order = sorted(range(len(self.values)), key=lambda i: _natural(self.values[i]))
        places = np.append(np.argsort(order), -1)  # the last place is for none
        return [self.values[i] for i in order], torch.from_numpy(places[self.codes].astype(np.int64))

    def classes(self) -> list[str]:
        """Return the sorted values, as they stand in a prompt; warn of a name that several values share."""
        return merged(sorted(self.values, key=_natural))

    def indices(self, names: Sequence[str], given: Classes, where: str) -> NDArray[np.int64]:
        """Return the class of each row, `[n]`, -1 for none.

        Args:
            names: of the classes.
            given: what the user said: where it is a list of names none of which is a number, a value may also
                be a place in it; where it is a mapping, one of its keys.
            where: for messages.

        Raises:
            ValueError: classes that are not among the names; all counted, the first ten listed.

        Example:
            >>> Column.of(["dog", "", "house_cat"]).indices(["dog", "house cat"], None, "pets.csv")
            array([ 0, -1,  1])
            >>> Column.of([1, 0]).indices(["dog", "house cat"], ["dog", "house cat"], "pets.csv")
            array([1, 0])
            >>> given = {"mel": "melanoma", "nv": "nevus"}
            >>> Column.of(["nv", "mel"]).indices(["melanoma", "nevus"], given, "lesions.csv")
            array([1, 0])
        """
        codes = _codes(given)
        counted = given and not codes and not any(_is_number(name) for name in names)
        places = {str(i): i for i in range(len(names))} if counted else {}
        places |= {readable(name): i for i, name in enumerate(names)}
        places |= {readable(code): names.index(name) for code, name in codes.items()}
        unknown = [value for value in self.values if readable(value) not in places]
        if unknown:
            known = [*codes] or names
            lines = [f"{value!r}, {self.count(value)} rows{close_to(value, known)}" for value in unknown]
            raise ValueError(
                f"{where} has {len(unknown)} classes that are not among the {len(names)} "
                f"{'of data.classes' if given else 'that its train images have'}:{listed(lines)}"
            )
        of_value = np.array([*(places[readable(value)] for value in self.values), -1], dtype=np.int64)
        return of_value[self.codes]


def _text(value: Any) -> str:
    if pd.api.types.is_list_like(value):
        raise ValueError(_listing(value))
    if isinstance(value, bytes):
        return value.decode()
    return "" if value != value else str(value)  # NaN differs from itself


def _as_class(value: str) -> str:
    """Return a label as a class: as a whole number if it is one, "" if it is -1 or blank."""
    text = value.partition(".")[0] if _WHOLE.fullmatch(value) else value
    return "" if text == "-1" or not readable(text) else text


def _listing(value: Any) -> str:
    return f"several values, {value}: an image has one class; write a row for each, or a column of one class"


def _codes(given: Classes) -> dict[str, str]:
    """Return the name that is given to each value; empty where only names are given.

    Raises:
        ValueError: a name that is no text, a value that is neither text nor whole number, or one given twice.
    """
    if not isinstance(given, Mapping):
        return {}
    check_given(given, "data.classes")
    codes = {str(code): readable(name) for code, name in given.items()}
    if len(codes) < len(given):
        raise ValueError(f"data.classes names a value twice, as number and as text: {sorted(codes)[:10]}")
    return codes


def known_classes(given: Classes, train: Column | None) -> Classes:
    """Return the user's classes, else the names of ImageNet's WordNet ids if the labels are such ids."""
    return given or (wordnet_names(train.values) if train else None) or None


def _is_number(name: str) -> bool:
    return name.strip().lstrip("+-").isdecimal()


def class_names(train: Column | None, given: Classes) -> list[str]:
    """Return the names that are given, else those of the train images.

    Raises:
        ValueError: neither, a given name that is no text, or one that is given twice.

    Example:
        >>> class_names(None, {"nv": "nevus", "mel": "melanoma"})
        ['nevus', 'melanoma']
    """
    if isinstance(given, Mapping):
        names = list(dict.fromkeys(_codes(given).values()))
    else:
        check_given(given or (), "data.classes")
        names = [readable(name) for name in given or ()]
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise ValueError(f"data.classes names {twice[0]!r} twice: one of the two could never be predicted")
    names = names or (train.classes() if train else [])
    if not names:
        raise ValueError(
            "there are no classes, and prompts are made of them: set data.label=COLUMN, or without one "
            "data.label=null and 'data.classes=[NAME,NAME]'"
        )
    return names


def check_columns(wanted: Iterable[str], present: Sequence[str], where: str) -> None:
    """Refuse columns that are not there.

    Raises:
        ValueError: names each, and what it is close to.
    """
    wanted = list(wanted)
    check_texts("the configuration of the columns", wanted)
    if unknown := [f"{name!r}{close_to(name, present)}" for name in wanted if name not in present]:
        raise ValueError(
            f"{where} has no column {', '.join(unknown)}; it has {', '.join(present)}. Name them "
            "with data.image, data.label, data.split, data.groups; null where there is none"
        )


def close_to(name: str, names: Iterable[str]) -> str:
    """Return a question that offers the closest name, or an empty text.

    Example:
        >>> close_to("lable", ["image", "label"])
        " (did you mean 'label'?)"
    """
    close = get_close_matches(name, [*names], n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _natural(value: str) -> tuple[bool, int, str]:
    return (not value.isdecimal(), int(value) if value.isdecimal() else 0, value)


def split_names(given: Mapping[str, Any] | None, present: Sequence[str], where: str) -> dict[Split, str]:
    """Return the name of each split that is there: split -> name.

    Args:
        given: split -> name; `None` knows the usual ones (`ALIASES`), in any case.
        present: the names that there are.
        where: for messages.

    Raises:
        ValueError: a key that is no split, a given name that is not there, no train split, or several names
            for one.

    Example:
        >>> split_names(None, ["train", "validation"], "")
        {'train': 'train', 'val': 'validation'}
        >>> split_names({"train": 0, "test": 2}, ["0", "1", "2"], "")
        {'train': '0', 'test': '2'}
    """
    if unknown := sorted({*(given or {})} - {*ALIASES}):
        raise ValueError(f"the keys of data.split_names are train, val and test, got {', '.join(unknown)}")
    found: dict[Split, str] = {}
    for split in ALIASES:
        wanted = None if given is None else given.get(split)
        if given is None:
            here = [name for name in present if split_of(name) == split]
        else:
            here = [name for name in present if wanted is not None and name == str(wanted)]
        if wanted is not None and not here:
            raise ValueError(f"{where}: the split {str(wanted)!r} is empty; there are {', '.join(present)}")
        if len(here) > 1:
            raise ValueError(
                f"{where} has several names for {split}: {', '.join(here)}. Say which is meant with "
                f"'data.split_names={{train: NAME, val: NAME, test: NAME}}'"
            )
        found |= {split: here[0]} if here else {}
    if "train" not in found:
        raise ValueError(
            f"{where} has the splits {', '.join(present)}, and none is train: say which is which with "
            "'data.split_names={train: NAME, val: NAME, test: NAME}'"
        )
    return found
