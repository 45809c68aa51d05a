"""The card of a corrected classifier, for people."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from lightning_sae.concepts.naming import LatentName
from lightning_sae.correct.record import BeforeAfter, HeldLatents, Record
from lightning_sae.trust.control_characters import visible

HOW = {
    "shift": "the threshold of the class and nothing else",
    "edit": "the culprits' direction was taken out of the vector of the class, with strength {amount:g}",
    "erase": "what tells the groups was taken out of the vector of the class, with strength {amount:g}",
    "refit": "the vector of the class was fitted anew to groups of equal weight (inverse penalty {amount:g})",
    "clamp": "the culprits are held at {amount:g} times their mean over the class's own images",
    "ablate": "the culprits are ablated",
}
SOURCES_ABLATED = "the sources of the culprits, at an earlier hook point, are ablated"
NAMED = 3  # classes that lose; the card's table has all of them


def card(record: Record) -> str:
    """Return the text of `card.md`; names and labels come from users and cannot be more than text in it."""
    # it is Markdown, which `safe_text` escapes
    environment = Environment(
        loader=PackageLoader("lightning_sae.correct"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"safe_text": safe_text, "change": change, "percent": percent}
    sources = record.held is not None and record.held.sources
    how = SOURCES_ABLATED if sources else HOW[record.way].format(amount=record.amount)
    named = {"culprits": listed(record), "held": record.held and listed(record.held)}
    template = environment.get_template("card.md.jinja")
    return template.render(record=record, how=how, price=price(record), **named)


def listed(latents: Record | HeldLatents) -> str:
    """Return the names of latents, as part of a sentence."""
    known = zip(latents.latents, latents.labels, latents.named, strict=True)
    return ", ".join(LatentName(label, named).in_sentence(j) for j, label, named in known)


def price(record: Record) -> str:
    """Return the classes that lose accuracy on other images than it was chosen on, the largest loss first."""
    named = [
        f"{visible(row.name)} {change(row.accuracy)} of {row.images} images" for row in record.losers[:NAMED]
    ]
    more = len(record.losers) - len(named)
    return "; ".join([*named, *([f"{more} more lose less"] if more else [])]) or "no class loses accuracy"


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share in percent, `-` for none.

    Example:
        >>> percent(0.125), percent(None)
        ('12.5 %', '-')
    """
    return "-" if share is None else f"{100 * share:.{digits}f} %"


def change(shares: BeforeAfter, digits: int = 1) -> str:
    """Return the percent before and after, `-` where there are no images.

    Example:
        >>> change(BeforeAfter(before=0.5, after=0.25, shifted=0.5))
        '50.0 → 25.0 %'
        >>> change(BeforeAfter(before=None, after=None, shifted=None))
        '-'
    """
    if shares.before is None or shares.after is None:
        return "-"
    return f"{100 * shares.before:.{digits}f} → {100 * shares.after:.{digits}f} %"


def safe_text(text: str) -> str:
    """Return one line of Markdown that neither ends a cell of a table nor starts a tag.

    Example:
        >>> safe_text("a|b <i>")
        'a&#124;b &#60;i&#62;'
    """
    text = " ".join(text.split()).replace("&", "&amp;")
    for special in "\\`*_|<>[]":
        text = text.replace(special, f"&#{ord(special)};")
    return text
