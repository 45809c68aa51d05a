"""Pictures of every kind: what a viewer shows is what CLIP gets."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lightning_sae.data import ActivationDataModule, BadImageError, ImageFolders, ImageTable, decode
from lightning_sae.data.images.decoding import (
    TRANSPARENT,
    TURNED,
    UNREADABLE_EXIF,
    image_endings,
    is_image,
    notes_on,
    scale_grey,
)
from lightning_sae.explain.image_file import read_image

STORED = {  # EXIF orientation -> what a camera does to the upright pixels
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x, -1),
}
GRADIENT = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.fixture
def upright():
    blocks = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    return np.kron(blocks, np.ones((8, 8, 1), dtype=np.uint8))


def encoded(image, kind="PNG", **settings):
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def turned(pixels, orientation, kind="PNG", **settings):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](pixels)))
    return encoded(stored, kind, exif=exif, **settings)


def grey(content, **settings):
    image = decode(content, "a", **settings)
    assert image.mode == "RGB"
    channels = np.asarray(image)
    assert (channels == channels[..., :1]).all()
    return channels[..., 0].astype(int)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 100, "subsampling": 0})],
)
@pytest.mark.parametrize("orientation", STORED)
def test_photographs_stand_upright(upright, kind, settings, orientation):
    image = decode(turned(upright, orientation, kind, **settings), "a")
    assert image.size == (32, 48)
    assert np.abs(np.asarray(image).astype(int) - upright).max() <= (2 if kind == "JPEG" else 0)
    assert notes_on(image) == ((TURNED,) if orientation > 1 else ())
    assert notes_on(decode(encoded(image), "a")) == ()  # a copy of it does not turn again


@pytest.mark.parametrize("orientation", STORED)
def test_what_is_enough_is_meant_upright(upright, orientation):
    content = turned(np.kron(upright, np.ones((8, 8, 1), dtype=np.uint8)), orientation, "JPEG")
    assert decode(content, "a", at_least=(60, 20)).size == (64, 96)  # of 256 x 384; an eighth has 32 x 48
    assert decode(content, "a", at_least=(20, 60)).size == (64, 96)
    assert decode(content, "a", at_least=(20, 40)).size == (32, 48)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_damaged_exif_costs_no_picture(upright, kind):
    content = encoded(Image.fromarray(upright), kind, exif=b"Exif\x00\x00no TIFF at all")
    image = decode(content, "a")
    assert image.size == (32, 48)
    assert notes_on(image) == (UNREADABLE_EXIF,)


def tiff(bits, kind, photometric, payload):
    """A TIFF of 16 x 16 grey values, as instruments write it; `kind` 1 unsigned, 2 signed, 3 float."""
    entries = [
        (256, 3, 16), (257, 3, 16), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8),
        (277, 3, 1), (278, 3, 16), (279, 4, len(payload)), (339, 3, kind),
    ]  # fmt: skip
    table = b"".join(struct.pack("<HHII", tag, form, 1, value) for tag, form, value in entries)
    head = struct.pack("<2sHI", b"II", 42, 8 + len(payload))
    return head + payload + struct.pack("<H", len(entries)) + table + struct.pack("<I", 0)


DEEP = {
    "16-bit PNG": (encoded(Image.fromarray(GRADIENT.astype(np.uint16) * 257)), "16-bit"),
    "16-bit TIFF": (tiff(16, 1, 1, (GRADIENT.astype("<u2") * 257).tobytes()), "16-bit"),
    "white is zero": (tiff(16, 1, 0, (65535 - GRADIENT.astype("<u2") * 257).tobytes()), "16-bit"),
    "12 bits in 16": (tiff(16, 1, 1, (GRADIENT.astype("<u2") * 16 + 15).tobytes()), "16-bit"),
    "16-bit PGM": (
        b"P5 16 16 65535\n" + (GRADIENT.astype(np.uint16) * 257).astype(">u2").tobytes(), "16-bit"),
    "32-bit TIFF": (tiff(32, 2, 1, (GRADIENT.astype("<i4") * 8421504).tobytes()), "32-bit"),
    "unsigned": (tiff(32, 1, 1, (GRADIENT.astype("<u4") * 16843009).tobytes()), "32-bit"),
    "signed": (tiff(32, 2, 1, ((GRADIENT.astype("<i4") - 128) * 100).tobytes()), "16-bit"),
    "float 0..1": (tiff(32, 3, 1, (GRADIENT.astype("<f4") / 255).tobytes()), "floating-point"),
    "float 0..255": (tiff(32, 3, 1, GRADIENT.astype("<f4").tobytes()), "floating-point"),
    "overshoot": (tiff(32, 3, 1, (GRADIENT.astype("<f4") / 250).tobytes()), "floating-point"),
    "float 0..5": (tiff(32, 3, 1, (GRADIENT.astype("<f4") / 51).tobytes()), "floating-point"),
    "Hounsfield": (tiff(32, 3, 1, (GRADIENT.astype("<f4") * 16 - 1024).tobytes()), "floating-point"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DEEP)
def test_deep_grey_keeps_its_shades(kind):
    content, called = DEEP[kind]
    found = grey(content)
    assert np.abs(found - GRADIENT).max() <= 1
    assert notes_on(decode(content, "a")) == (f"{called} grey, scaled to 8 bits",)


def test_a_dim_deep_picture_stays_dim():
    """White is that of the bits, not of the picture: half of it is half as bright."""
    assert scale_grey(np.array([[0, 33000]], dtype=np.uint16)).tolist() == [[0, 128]]
    assert scale_grey(np.full((2, 2), 0.25, dtype=np.float32)).tolist() == [[64, 64], [64, 64]]
    assert scale_grey(np.full((1, 2), -5, dtype=np.int32)).tolist() == [[0, 0]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(value):
    with pytest.raises(BadImageError, match=r"^scan\.tif: it has values that are not finite$"):
        decode(tiff(32, 3, 1, np.full((16, 16), value, "<f4").tobytes()), "scan.tif")


def icon(mode):
    """A black square whose right half is transparent."""
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (2, 0, 4, 4))
    if mode == "P":
        palette = Image.new("P", (4, 4), 0)
        palette.putpalette([0, 0, 0, 9, 9, 9])
        palette.paste(1, (2, 0, 4, 4))
        return encoded(palette, transparency=1)
    if mode in ("RGB", "L"):
        plain = Image.new(mode, (4, 4))
        plain.paste(7 if mode == "L" else (7, 7, 7), (2, 0, 4, 4))
        return encoded(plain, transparency=7 if mode == "L" else (7, 7, 7))
    return encoded(image.convert(mode))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L"])
def test_transparent_pictures_lie_on_white_or_what_is_said(mode):
    assert grey(icon(mode)).tolist() == [[0, 0, 255, 255]] * 4
    assert grey(icon(mode), background="#808080").tolist() == [[0, 0, 128, 128]] * 4
    assert notes_on(decode(icon(mode), "a")) == (TRANSPARENT,)


def png(bits, values, transparent):
    """A PNG of one row of grey values, of which one is transparent."""
    row = np.unpackbits(np.array(values, ">u2").view(np.uint8).reshape(-1, 16 // 8), axis=1)[:, -bits:]
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", len(values), 1, bits, 0, 0, 0, 0),
        b"tRNS": struct.pack(">H", transparent),
        b"IDAT": zlib.compress(b"\0" + np.packbits(row).tobytes()),
        b"IEND": b"",
    }
    written = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_one_grey_value_is_transparent(bits):
    white = 2**bits - 1
    assert grey(png(bits, [0, white, 0], 0), background="#808080").tolist() == [[128, 255, 128]]
    assert grey(png(bits, [0, white, 0], white), background="#808080").tolist() == [[0, 128, 0]]
    assert TRANSPARENT in notes_on(decode(png(bits, [0, white, 0], white), "a"))


def test_half_transparent_pixels_are_mixed():
    image = decode(encoded(Image.new("RGBA", (1, 1), (255, 0, 0, 51))), "a")
    assert image.getpixel((0, 0)) == (255, 204, 204)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_opaque_alpha_channel_changes_nothing(mode, upright):
    image = Image.fromarray(upright).convert("L" if mode == "LA" else "RGB")
    found = decode(encoded(image.convert(mode)), "a")
    assert found.tobytes() == image.convert("RGB").tobytes()
    assert notes_on(found) == ()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
def test_other_modes_are_as_pillow_has_them(mode, upright):
    image = Image.fromarray(upright).convert(mode)
    content = encoded(image, "TIFF")
    assert decode(content, "a").tobytes() == Image.open(io.BytesIO(content)).convert("RGB").tobytes()
    assert notes_on(decode(content, "a")) == ()


@pytest.mark.parametrize(
    ("kind", "ending"),
    [("AVIF", ".avif"), ("JPEG2000", ".jp2"), ("JPEG", ".jfif"), ("WEBP", ".webp"), ("QOI", ".qoi")],
)
def test_endings_are_those_that_pillow_reads(kind, ending, upright, tmp_path):
    path = tmp_path / "noending"
    path.write_bytes(encoded(Image.fromarray(upright), kind))
    assert ending in image_endings()
    assert is_image(path)
    assert decode(path.read_bytes(), path.name).size == (32, 48)


def test_pictures_that_other_programs_draw_are_none(tmp_path):
    path = tmp_path / "a.eps"  # Pillow would hand it to Ghostscript
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    assert not is_image(path)
    assert {".eps", ".ps", ".pdf", ".wmf", ".h5"}.isdisjoint(image_endings())
    with pytest.raises(BadImageError, match="not an image file that Pillow knows"):
        decode(path.read_bytes(), path.name)


@pytest.fixture
def pictures(tmp_path, upright):
    """Six images in each split: one of each kind that is not plain, and three that are."""
    for split in ("train", "val"):
        for i in range(6):
            path = tmp_path / "pets" / split / ("cat", "dog")[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.roll(upright, i + 10 * (split == "val"), 0)
            content = [turned(pixels, 6), icon("RGBA"), DEEP["16-bit PNG"][0]][i:][:1]
            path.write_bytes(content[0] if content else encoded(Image.fromarray(pixels)))
    return tmp_path / "pets"


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("decoded", ["exact", "fast"])
def test_capture_counts_what_it_did(pictures, clip, judge, tmp_path, num_workers, decoded):
    settings = {"store_dir": str(tmp_path / "store"), "num_workers": num_workers, "shard_images": 4}
    data = ActivationDataModule(
        ImageFolders(pictures, test_fraction=0),
        clip,
        "visual.transformer.resblocks.1",
        judge=judge,
        decode=decoded,
        **settings,
    )
    lines = (
        "1 of 6 images were 16-bit grey, scaled to 8 bits\n"
        "1 of 6 images were transparent, laid on data.background\n"
        "1 of 6 images were turned upright by their EXIF orientation"
    )
    with pytest.warns(UserWarning, match=f"^{lines}$"):
        folder = data.capture("train")
    assert '"16-bit grey, scaled to 8 bits": 1' in (folder / "images" / "manifest.json").read_text()


def test_a_background_has_a_store_of_its_own(pictures, clip, judge, tmp_path):
    def made(background):
        return ActivationDataModule(
            ImageFolders(pictures),
            clip,
            "visual.transformer.resblocks.1",
            judge=judge,
            store_dir=str(tmp_path),
            background=background,
        )

    white, black = made("white"), made("black")
    assert white.captures()["train"].folder != black.captures()["train"].folder
    icons = [i for i, file in enumerate(white.images("val").files) if file.path.endswith("dog/1.png")]
    assert white.images("val")[icons[0]].getpixel((3, 0)) == (255, 255, 255)
    assert black.images("val")[icons[0]].getpixel((3, 0)) == (0, 0, 0)
    with pytest.raises(ValueError, match=r"data\.background must be a colour, .*; got 'whyte'"):
        made("whyte")


@pytest.mark.parametrize("kind", ["16-bit PNG", "transparent", "turned"])
def test_all_who_read_pictures_read_the_same(kind, tmp_path, upright):
    content = {"16-bit PNG": DEEP["16-bit PNG"][0], "transparent": icon("P"), "turned": turned(upright, 8)}[
        kind
    ]
    path = tmp_path / "pets" / "cat" / "0.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    (tmp_path / "pets" / "all.csv").write_text("image,label\ncat/0.png,cat\n")
    wanted = decode(content, "a").tobytes()
    fractions = {"val_fraction": 0, "test_fraction": 0}
    assert ImageFolders(tmp_path / "pets", **fractions).split("train")[0].tobytes() == wanted
    table = ImageTable(tmp_path / "pets" / "all.csv", split=None, **fractions)
    assert table.split("train")[0].tobytes() == wanted
    assert read_image(path).tobytes() == wanted
