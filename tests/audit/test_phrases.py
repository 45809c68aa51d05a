"""What a class is called, from its prompts or its name."""

import pytest

from lightning_sae.audit.evidence.phrases import class_phrases, is_part, words_of


def phrases(**prompts):
    return class_phrases([name.replace("_", " ") for name in prompts], [[text] for text in prompts.values()])


def test_the_words_between_those_that_all_prompts_share():
    assert phrases(dog="a photo of a dog, a pet", owl="a photo of an owl, a pet") == ["dog", "owl"]
    assert phrases(dog="a dog", cat="an image that shows a cat") == ["dog", "image that shows a cat"]


def test_a_name_keeps_its_words_where_the_template_has_them_too():
    found = phrases(photo_frame="a photo of a photo frame", dog="a photo of a dog")
    assert found == ["photo frame", "dog"]
    assert phrases(red_car="a red car", blue_car="a blue car") == ["red car", "blue car"]


def test_a_single_class_and_prompts_that_say_the_same():
    assert phrases(dog="a photo of a dog") == ["dog"]
    assert phrases(dog="a photo", cat="a photo") == ["dog", "cat"]
    assert phrases(nevus="Click!", melanoma="") == ["click", "melanoma"]


def test_only_the_first_prompt_of_a_class_names_it():
    assert class_phrases(["a", "b"], [["one x", "two y"], ["one z"]]) == ["x", "z"]


def test_names_without_words_are_their_own_phrase():
    assert class_phrases(["\U0001f98a", "7"]) == ["\U0001f98a", "7"]
    assert class_phrases(["C++", "Größe"]) == ["c", "größe"]
    assert words_of("?!") == []


@pytest.mark.parametrize(
    ("word", "phrase", "part"),
    [
        ("sun", "sun flower", True),
        ("the sun", "a sun flower", True),
        ("sun flower", "sun flower", False),
        ("flower sun", "sun flower", False),
        ("a", "a lion", False),
        ("moon", "sun flower", False),
        ("", "sun flower", False),
    ],
)
def test_a_part_has_fewer_words_and_all_of_them(word, phrase, part):
    assert is_part(word, phrase) is part
