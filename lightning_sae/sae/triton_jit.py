"""The programs that Triton compiles for a GPU; `triton_kernels` launches them.

Tensors are contiguous, indices and offsets int64. Sums are in float32, in a fixed order, without atomics.
"""

import triton
import triton.language as tl

LOWEST = tl.constexpr(-0x80000000)  # below the image of every float
NAN = tl.constexpr(0x7F800001)  # above that of infinity


@triton.jit
def ordered(x):
    """Integers in the order of the floats `x`; NaN is the largest, as in PyTorch, and -0 below 0."""
    width: tl.constexpr = x.dtype.primitive_bitwidth
    integer: tl.constexpr = tl.int32 if width == 32 else tl.int16
    bits = x.to(integer, bitcast=True).to(tl.int32)
    keys = bits ^ ((bits >> 31) & ((1 << (width - 1)) - 1))
    x = x.to(tl.float32)
    return tl.where(x == x, keys, NAN)


@triton.jit
def kth_largest(keys, k, SIZE: tl.constexpr, GROUPS: tl.constexpr):
    """A number that the `k` largest keys reach, and of the others only those that equal the least of them.

    Found by bisection; the smallest maximum of `GROUPS >= k` groups is a lower bound.
    """
    maxima = tl.max(tl.reshape(keys, [SIZE // GROUPS, GROUPS]), axis=0)
    low, high = tl.min(maxima, axis=0), tl.max(maxima, axis=0) + 1
    reached = tl.sum((keys >= low).to(tl.int32), axis=0)
    while (reached != k) & (low + 1 < high):
        middle = (low & high) + ((low ^ high) >> 1)  # their sum may overflow
        count = tl.sum((keys >= middle).to(tl.int32), axis=0)
        low, high = tl.where(count >= k, middle, low), tl.where(count >= k, high, middle)
        reached = tl.where(count >= k, count, reached)
    return low


@triton.jit
def find_largest(x, winners, n_columns, length, k, SIZE: tl.constexpr, GROUPS: tl.constexpr):
    """Columns of the `k` largest entries in a part of a row, ascending; the first of equal ones.

    Program `(row, part)` looks at columns `part * length .. (part + 1) * length - 1`, `length <= SIZE`, of
    `x [n, n_columns]` and writes `winners[row, part, :k]`.
    """
    row, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    place = tl.arange(0, SIZE)
    column = part * length + place
    inside = (place < length) & (column < n_columns)
    entries = tl.load(x + row * n_columns + column, mask=inside, other=0.0)
    keys = tl.where(inside, ordered(entries), LOWEST)
    least = kth_largest(keys, k, SIZE, GROUPS)
    above, equal = keys > least, keys == least
    room = k - tl.sum(above.to(tl.int32), axis=0)
    chosen = above | (equal & (tl.cumsum(equal.to(tl.int32), axis=0) <= room))
    slot = tl.cumsum(chosen.to(tl.int32), axis=0) - 1
    start = (row * tl.num_programs(1) + part) * k
    tl.store(winners + start + slot, column.to(tl.int64), mask=chosen)


@triton.jit
def sum_rows(values, rows, indices, offsets, sums, width, COLUMNS: tl.constexpr, ENTRIES: tl.constexpr):
    """`sums[i] = sum of values * rows[index]` over the entries of bag `i`.

    Program `(i, slice)` sums a slice of the columns: what is read of `rows` for one slice fits into cache.
    """
    bag = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    start, stop = tl.load(offsets + bag), tl.load(offsets + bag + 1)
    total = tl.zeros([ENTRIES, COLUMNS], tl.float32)
    while start < stop:
        entry = start + tl.arange(0, ENTRIES)
        value = tl.load(values + entry, mask=entry < stop, other=0.0).to(tl.float32)
        index = tl.load(indices + entry, mask=entry < stop, other=0)
        inside = (entry < stop)[:, None] & (column < width)[None, :]
        row = tl.load(rows + index[:, None] * width + column[None, :], mask=inside, other=0.0)
        total += value[:, None] * row.to(tl.float32)
        start += ENTRIES
    tl.store(sums + bag * width + column, tl.sum(total, axis=0), mask=column < width)


@triton.jit
def dot_rows(x, rows, tokens, indices, parts, nnz, width, COLUMNS: tl.constexpr, ENTRIES: tl.constexpr):
    """`parts[slice, entry] = <x[token], rows[index]>` over a slice of the columns."""
    entry = tl.program_id(0).to(tl.int64) * ENTRIES + tl.arange(0, ENTRIES)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    token = tl.load(tokens + entry, mask=entry < nnz, other=0)
    index = tl.load(indices + entry, mask=entry < nnz, other=0)
    inside = (entry < nnz)[:, None] & (column < width)[None, :]
    left = tl.load(x + token[:, None] * width + column[None, :], mask=inside, other=0.0)
    right = tl.load(rows + index[:, None] * width + column[None, :], mask=inside, other=0.0)
    product = tl.sum(left.to(tl.float32) * right.to(tl.float32), axis=1)
    tl.store(parts + tl.program_id(1).to(tl.int64) * nnz + entry, product, mask=entry < nnz)
