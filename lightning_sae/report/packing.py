"""Data inside a page, in letters that mean nothing to HTML: JSON, and arrays of numbers."""

import base64
import gzip
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = {"u1": np.uint8, "i1": np.int8, "i2": np.int16, "i4": np.int32, "f4": np.float32}


def packed(content: dict[str, Any]) -> str:
    """Return JSON, gzip, base64.

    Example:
        >>> packed({"label": "</script>"})[:4]
        'H4sI'
    """
    return _letters(json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode())


def packed_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    r"""Return arrays, one behind the other, little-endian, gzip, base64.

    The bytes begin with the length of a header (4 bytes) and the header itself: JSON, padded with spaces to
    a multiple of 8, `{name: [kind, first byte, shape]}`; the first byte counts from the end of the header and
    is a multiple of 8, so that a browser views each array where it lies.

    Args:
        arrays: of the kinds of `KINDS`.

    Example:
        >>> content = gzip.decompress(base64.b64decode(packed_arrays({"a": np.arange(3, dtype=np.uint8)})))
        >>> content[4:28], content[28:]
        (b'{"a":["u1",0,[3]]}      ', b'\x00\x01\x02\x00\x00\x00\x00\x00')
    """
    header, parts, at = {}, [], 0
    for name, array in arrays.items():
        content = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
        padded = content + b"\0" * (-len(content) % 8)
        header[name] = [_kind(array), at, [*array.shape]]
        parts.append(padded)
        at += len(padded)
    said = json.dumps(header, separators=(",", ":")).encode()
    said += b" " * (-len(said) % 8)
    return _letters(b"".join([len(said).to_bytes(4, "little"), said, *parts]))


def _kind(array: NDArray[Any]) -> str:
    return next(kind for kind, dtype in KINDS.items() if array.dtype == dtype)


def _letters(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, mtime=0)).decode("ascii")
