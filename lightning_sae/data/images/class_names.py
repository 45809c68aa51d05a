"""Names of classes: as they stand in a prompt, each once, and words rather than codes."""

import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from torch import Tensor

from lightning_sae.data.images.image_set import listed
from lightning_sae.trust.control_characters import INVISIBLE

NO_NAMES = {"true", "false", "na", "n/a", "<na>", "nan", "nat", "null", "nil", "none"}
"""Truth values, and what tables have where a value is missing, in lower case."""

_NUMBERED = re.compile(
    r"(category|class|cls|cluster|group|id|idx|index|label|object|target|type)\W*\d+|(?=\D*\d)[\da-f]+", re.I
)
"""A number with a word that says nothing, or one in hexadecimal."""


def readable(value: str) -> str:
    """Return a name as it stands in a prompt: composed (NFC), with single spaces for underscores and space.

    Invisible characters are left out, but for those that join emoji.

    Raises:
        ValueError: it has bytes that are no UTF-8, as names of files on Linux may.

    Example:
        >>> readable(" hot_dog ") == readable("hot  d\u200bog")
        True
    """
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError(
            f"the class {value!r} has a name with bytes that are no UTF-8: rename it, as convmv does"
        )
    seen = INVISIBLE.sub("", value.replace("\ufe0f", ""))  # which says that an emoji has colours
    return " ".join(unicodedata.normalize("NFC", seen).replace("_", " ").split())


def spellings(values: Sequence[str]) -> dict[str, list[str]]:
    """Return the readable names of some values, in their order, each with the values that are called so.

    Example:
        >>> spellings(["hot_dog", "owl", "hot dog"])
        {'hot dog': ['hot_dog', 'hot dog'], 'owl': ['owl']}
    """
    found: dict[str, list[str]] = {}
    for value in values:
        found.setdefault(readable(value), []).append(value)
    return found


def merged(values: Sequence[str]) -> list[str]:
    """Return the readable names of some values, each once; warn of a name that several values share."""
    found = spellings(values)
    lines = [f"{name}: {', '.join(map(repr, own))}" for name, own in found.items() if len(own) > 1]
    if lines:
        text = f"{len(lines)} classes have several spellings, and are one each:{listed(lines)}"
        warnings.warn(text, stacklevel=4)
    return [*found]


def wordnet_names(values: Sequence[str]) -> dict[str, str]:
    """Return open_clip's names of ImageNet's WordNet ids, if all values are such ids; empty otherwise.

    Two pairs of the 1,000 classes share a name there (*missile*, *sunglasses*).

    Example:
        >>> wordnet_names(["n01440764", "n01443537"])
        {'n01440764': 'tench', 'n01443537': 'goldfish'}
        >>> wordnet_names(["n01440764", "tench"])
        {}
    """
    if not values or any(re.fullmatch(r"n\d{8}", value) is None for value in values):
        return {}
    known = _imagenet()
    if not known.keys() >= {*values}:
        return {}
    found = {value: known[value] for value in values}
    shared = [name for name, times in Counter(found.values()).items() if times > 1]
    if lines := [f"{name}: {', '.join(id for id in found if found[id] == name)}" for name in shared]:
        text = f"{len(lines)} names of ImageNet stand for two classes, which are one here:{listed(lines)}"
        warnings.warn(text, stacklevel=4)
    return found


def check_words(names: Sequence[str]) -> None:
    """Warn of names that look like codes, truth values or missing values: prompts are made of them.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     check_words(["nv", "melanoma", "C43.9", "True", "class 1"])
        >>> str(caught[0].message).splitlines()[1:5]
        ['  nv', '  C43.9', '  True', '  class 1']
    """
    if codes := [name for name in names if not _has_a_word(name) or name.casefold() in NO_NAMES]:
        warnings.warn(
            f"{len(codes)} of {len(names)} class names look like codes or missing values, and prompts are "
            f"made of them:{listed(codes)}\nSay what they are called with 'data.classes={{CODE: NAME, ...}}' "
            "or data.classes=FILE; leave empty what is no class",
            stacklevel=2,
        )


def check_distinct(
    names: Sequence[str], prompts: Sequence[Sequence[str]], tokenizer: Callable[[list[str]], Tensor]
) -> None:
    """Refuse classes whose prompts are the same to CLIP: one of them could never be predicted.

    Args:
        names: of the classes.
        prompts: of each class.
        tokenizer: texts -> `[m, context]` token ids.

    Raises:
        ValueError: names each such set of classes.
    """
    first = tokenizer([group[0] for group in prompts])
    alike: dict[bytes, list[int]] = {}
    for label, ids in enumerate(first):
        alike.setdefault(ids.numpy().tobytes(), []).append(label)
    same: dict[bytes, list[int]] = {}
    for label in (label for labels in alike.values() if len(labels) > 1 for label in labels):
        ids = tokenizer(list(prompts[label]))
        same.setdefault(ids.numpy().tobytes(), []).append(label)
    if lines := [", ".join(repr(names[i]) for i in labels) for labels in same.values() if len(labels) > 1]:
        raise ValueError(
            f"{len(lines)} sets of classes have the same prompts to CLIP's tokenizer, which ignores case "
            f"and cuts long texts:{listed(lines)}\nMerge or rename them, with 'data.classes={{NAME: NAME}}', "
            "or give them other prompts with data.prompts_file"
        )


def _has_a_word(name: str) -> bool:
    """Tell if there is a run of letters that can be said: other scripts count as such."""
    if _NUMBERED.fullmatch(name):
        return False
    runs = re.findall(r"[^\W\d_]+", name)
    if re.search(r"\d", name):  # C43, ICD10, HAM_0001; but Boeing 737
        runs = [run for run in runs if run != run.upper()]
    return any(not run.isascii() or (len(run) > 1 and re.search("[aeiouy]", run, re.I)) for run in runs)


@cache
def _imagenet() -> Mapping[str, str]:
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
    from timm.data.imagenet_info import ImageNetInfo  # open_clip needs timm; its ids are in the same order

    ids = ImageNetInfo("imagenet-1k").label_names()  # type: ignore[no-untyped-call]
    return dict(zip(ids, IMAGENET_CLASSNAMES, strict=True))
