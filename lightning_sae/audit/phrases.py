"""The words by which a class is meant: its prompts without what all prompts share."""

import re
from collections.abc import Sequence


def words_of(text: str) -> list[str]:
    """Words in lower case, without punctuation.

    Example:
        >>> words_of("A photo of a fire-engine, red.")
        ['a', 'photo', 'of', 'a', 'fire', 'engine', 'red']
    """
    return re.findall(r"\w+", text.lower())


def class_phrases(class_names: Sequence[str], prompts: Sequence[Sequence[str]] = ()) -> list[str]:
    """What each class is called: of its first prompt the words that not every class has, else its name.

    Example:
        >>> class_phrases(["flower", "dog"], [["a photo of a sun flower"], ["a photo of a dog"]])
        ['sun flower', 'dog']
        >>> class_phrases(["sea lion", "dog"])
        ['sea lion', 'dog']
    """
    if not prompts:
        return [" ".join(words_of(name)) for name in class_names]
    everywhere = set.intersection(*({w for prompt in group for w in words_of(prompt)} for group in prompts))
    phrases = [" ".join(w for w in words_of(group[0]) if w not in everywhere) for group in prompts]
    return [phrase or " ".join(words_of(name)) for phrase, name in zip(phrases, class_names, strict=True)]


def is_part(word: str, phrase: str) -> bool:
    """Whether all words of one name are words of another that has more: a part of a compound name.

    Example:
        >>> is_part("sun", "sun flower"), is_part("a lion", "sea lion"), is_part("dog", "dog")
        (True, True, False)
    """
    part, whole = set(words_of(word)) - _ARTICLES, set(words_of(phrase)) - _ARTICLES
    return bool(part) and part < whole


_ARTICLES = {"a", "an", "the"}
