"""The words by which a class is meant: its prompts without what all of them begin and end with."""

import re
from collections.abc import Sequence
from itertools import dropwhile, takewhile


def words_of(text: str) -> list[str]:
    """Return the words in lower case, without punctuation.

    Example:
        >>> words_of("A photo of a fire-engine, red.")
        ['a', 'photo', 'of', 'a', 'fire', 'engine', 'red']
    """
    return re.findall(r"\w+", text.lower())


def class_phrases(class_names: Sequence[str], prompts: Sequence[Sequence[str]] = ()) -> list[str]:
    """Return what each class is called.

    It is the part of its first prompt between the words that the first prompts of all classes share, or the
    name of the class where there is no such part.

    Example:
        >>> class_phrases(["flower", "frame"], [["a photo of a sun flower"], ["a photo of a photo frame"]])
        ['sun flower', 'photo frame']
        >>> class_phrases(["sea lion", "dog"])
        ['sea lion', 'dog']
    """
    names = [words_of(name) for name in class_names]
    first = [words_of(group[0]) for group in prompts] or names
    shared = (_alike(first), _alike([words[::-1] for words in first])) if prompts else (0, 0)
    phrases = (_between(words, *shared, name) for words, name in zip(first, names, strict=True))
    return [phrase or name for phrase, name in zip(phrases, class_names, strict=True)]


def _alike(texts: Sequence[Sequence[str]]) -> int:
    """Return with how many equal words all texts begin."""
    places = zip(*texts, strict=False)  # up to the end of the shortest
    return len(list(takewhile(lambda words: len(set(words)) == 1, places)))


def _between(words: Sequence[str], before: int, after: int, name: Sequence[str]) -> str:
    """Return the words without those that are shared at the ends, but never less than the name among them."""
    stop, n = len(words) - after, len(name)
    for place in reversed(range(len(words) - n + 1)):
        if n and words[place : place + n] == name:
            before, stop = min(before, place), max(stop, place + n)
            break
    found = list(dropwhile(_ARTICLES.__contains__, words[before:stop]))
    return " ".join(found or name)


def is_part(word: str, phrase: str) -> bool:
    """Return whether all words of one name are words of another that has more: a part of a compound name.

    Example:
        >>> is_part("sun", "sun flower"), is_part("a lion", "sea lion"), is_part("dog", "dog")
        (True, True, False)
    """
    part, whole = set(words_of(word)) - _ARTICLES, set(words_of(phrase)) - _ARTICLES
    return bool(part) and part < whole


_ARTICLES = {"a", "an", "the"}
