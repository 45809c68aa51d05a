"""Drawing a scene with Pillow: a glyph, slightly turned and shifted, on a plain background."""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lightning_sae.world.scene import BACKGROUNDS, COLOURS, THINGS, Colour, Scene

SIZE = 40
"""Edge of a picture in pixels."""

_EDGES = (26, 28, 30, 32, 34)  # longer edge of a glyph, pixels
_ANGLES = (-10, -5, 0, 5, 10)  # degrees
_SHIFT = 3  # pixels either way
_STICKER_HEIGHT = 10
_NOISE = 5.0  # standard deviation, of 255


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size)


def _mask(text: str, size: int, tight: bool) -> Image.Image:
    """Return the text as a mask: cut to its ink, or as high as the line."""
    font = _font(size)
    left, top, right, bottom = (int(edge) for edge in font.getbbox(text))
    if not tight:
        top, bottom = 0, sum(font.getmetrics())
    mask = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(mask).text((-left, -top), text, font=font, fill=255)
    return mask


@cache
def _glyph(thing: str, edge: int, angle: int) -> Image.Image:
    mask = _mask(THINGS[thing], 96, tight=True).rotate(angle, Image.Resampling.BICUBIC, expand=True)
    mask.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    return mask


@cache
def _sticker(word: str) -> Image.Image:
    """Return a white label with the word in black, as wide as the word needs."""
    ink = _mask(word, 32, tight=False)
    width = min(SIZE - 2, round(ink.width * _STICKER_HEIGHT / ink.height))
    sticker = Image.new("L", (width + 2, _STICKER_HEIGHT), 255)
    sticker.paste(0, (1, 0), ink.resize((width, _STICKER_HEIGHT), Image.Resampling.LANCZOS))
    return sticker.convert("RGB")


def draw(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """Draw a scene as an RGB picture of `SIZE` x `SIZE` pixels.

    Size, angle, brightness and place of the glyph and the pixel noise come from `rng`, in that order:
    the same generator state gives the same picture.

    Args:
        scene: what to draw.
        rng: source of everything the scene leaves open.

    Returns:
        The picture.

    Raises:
        ValueError: a thing, colour or background that the world does not have.

    Example:
        >>> picture = draw(Scene("star", "red", "black"), np.random.default_rng(0))
        >>> picture.size, picture.mode
        ((40, 40), 'RGB')
    """
    _check(scene)
    glyph = _glyph(scene.thing, int(rng.choice(_EDGES)), int(rng.choice(_ANGLES)))
    picture = Image.new("RGB", (SIZE, SIZE), BACKGROUNDS[scene.background])
    picture.paste(_shade(COLOURS[scene.colour], rng), _place(glyph, bool(scene.word), rng), glyph)
    if scene.word:
        sticker = _sticker(scene.word)
        picture.paste(sticker, ((SIZE - sticker.width) // 2, SIZE - sticker.height))
    noise = rng.standard_normal((SIZE, SIZE, 3), dtype=np.float32) * _NOISE
    pixels = np.asarray(picture, dtype=np.float32) + noise
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _place(glyph: Image.Image, over_sticker: bool, rng: np.random.Generator) -> tuple[int, int]:
    """Return the upper left corner of a glyph.

    The glyph is near the middle, or near the upper edge where a sticker takes the lower edge.
    """
    shift_x, shift_y = (int(shift) for shift in rng.integers(-_SHIFT, _SHIFT + 1, size=2))
    height = SIZE - _STICKER_HEIGHT if over_sticker else SIZE
    free_x, free_y = SIZE - glyph.width, SIZE - glyph.height
    middle_y = max(0, (height - glyph.height) // 2)
    return min(max(free_x // 2 + shift_x, 0), free_x), min(max(middle_y + shift_y, 0), free_y)


def _shade(colour: Colour, rng: np.random.Generator) -> Colour:
    red, green, blue = (np.asarray(colour) * rng.uniform(0.88, 1.04)).clip(0, 255).astype(int).tolist()
    return red, green, blue


def _check(scene: Scene) -> None:
    for name, value, known in (
        ("thing", scene.thing, THINGS),
        ("colour", scene.colour, COLOURS),
        ("background", scene.background, BACKGROUNDS),
    ):
        if value not in known:
            raise ValueError(f"unknown {name} {value!r}; the world has {', '.join(known)}")
