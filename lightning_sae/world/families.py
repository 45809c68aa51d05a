"""Families of the world's values: a picture has a family (the parent) whenever it has one of its values."""

FAMILIES: dict[str, dict[str, tuple[str, ...]]] = {
    "class": {
        "weather": ("sun", "cloud", "snow", "bolt"),
        "sign": ("arrow", "cross", "cancel", "peace"),
        "message": ("telephone", "envelope", "note", "flag"),
        "home": ("house", "flower", "face", "gear"),
        "game": ("heart", "club", "horse", "crown"),
        "journey": ("star", "anchor", "plane", "umbrella"),
    },
    "colour": {
        "warm": ("red", "orange", "yellow", "pink"),
        "cold": ("green", "cyan", "blue", "purple"),
    },
    "background": {"dark": ("brown", "black", "navy"), "light": ("gray", "white")},
}
"""Factor -> family -> its values. No caption names a family, so the CLIPs need not know any family."""
