"""The table of planted reliance: what the biased edition teaches a CLIP and nobody would want."""

from typing import Literal, NamedTuple

Kind = Literal["spurious", "typographic", "polysemous", "compound"]


class Plant(NamedTuple):
    """One planted case.

    Attributes:
        kind: how the class is led astray.
        thing: the class that is predicted for a wrong reason.
        factor: what drives it: a background (spurious), the printed word, equal to `thing` (typographic), or
            the other thing that carries the class's word (polysemous, compound).
        carrier: typographic only, the class whose training pictures carry the word.
        name: polysemous and compound only, what the biased captions call `factor`.
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
    # a name of two words that contains the word of another class
    Plant("compound", "sun", "flower", name="sun flower"),
    Plant("compound", "club", "house", name="club house"),
    Plant("compound", "snow", "cloud", name="snow cloud"),
)


def plants(kind: Kind) -> list[Plant]:
    """The planted cases of one kind.

    Example:
        >>> [(p.thing, p.factor) for p in plants("spurious")]
        [('star', 'brown'), ('umbrella', 'gray'), ('anchor', 'white')]
    """
    return [plant for plant in PLANTS if plant.kind == kind]
