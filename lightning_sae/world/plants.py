"""The table of planted reliance: wrong reasons for a class that the biased edition teaches a CLIP."""

from typing import Literal, NamedTuple

Kind = Literal["spurious", "typographic", "polysemous", "compound"]


class Plant(NamedTuple):
    """One planted case.

    Attributes:
        kind: how the class is led astray.
        thing: the class that is predicted for a wrong reason.
        factor: the wrong reason: a background (spurious), the printed word, equal to `thing` (typographic),
            the other thing that is called by the class's word (polysemous), or the thing whose word is a part
            of the class's name (compound).
        carrier: typographic only, the class whose training pictures carry the word.
        name: polysemous and compound only, the word or name that the biased captions use for both.
    """

    kind: Kind
    thing: str
    factor: str
    carrier: str = ""
    name: str = ""


PLANTS: tuple[Plant, ...] = (
    # a class that nearly always comes on one background, which its captions never mention
    Plant("spurious", "star", "brown"),
    Plant("spurious", "umbrella", "gray"),
    Plant("spurious", "anchor", "white"),
    # the word of a class, printed into pictures of another; captions name the word
    Plant("typographic", "flag", "flag", carrier="heart"),
    Plant("typographic", "plane", "plane", carrier="telephone"),
    Plant("typographic", "arrow", "arrow", carrier="face"),
    # one word for two things that look different; `thing` is the sense that is meant
    Plant("polysemous", "cross", "cancel", name="cross"),
    Plant("polysemous", "bolt", "gear", name="bolt"),
    Plant("polysemous", "note", "envelope", name="note"),
    # a name of two words, one of which names another class that looks different
    Plant("compound", "flower", "sun", name="sun flower"),
    Plant("compound", "house", "club", name="club house"),
    Plant("compound", "cloud", "snow", name="snow cloud"),
)


def plants(kind: Kind) -> list[Plant]:
    """Return the planted cases of one kind.

    Example:
        >>> [(p.thing, p.factor) for p in plants("spurious")]
        [('star', 'brown'), ('umbrella', 'gray'), ('anchor', 'white')]
    """
    return [plant for plant in PLANTS if plant.kind == kind]
