"""Programs for the products between a sparse pattern of latents and dense rows, with their gradients."""

import triton
import triton.language as tl


@triton.jit
def sum_rows(values, rows, indices, offsets, sums, width, COLUMNS: tl.constexpr, ENTRIES: tl.constexpr):
    """Return `sums[i] = sum of values * rows[index]` over the entries of bag `i`.

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
    """Return `parts[slice, entry] = <x[token], rows[index]>` over a slice of the columns."""
    entry = tl.program_id(0).to(tl.int64) * ENTRIES + tl.arange(0, ENTRIES)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    token = tl.load(tokens + entry, mask=entry < nnz, other=0)
    index = tl.load(indices + entry, mask=entry < nnz, other=0)
    inside = (entry < nnz)[:, None] & (column < width)[None, :]
    left = tl.load(x + token[:, None] * width + column[None, :], mask=inside, other=0.0)
    right = tl.load(rows + index[:, None] * width + column[None, :], mask=inside, other=0.0)
    product = tl.sum(left.to(tl.float32) * right.to(tl.float32), axis=1)
    tl.store(parts + tl.program_id(1).to(tl.int64) * nnz + entry, product, mask=entry < nnz)


@triton.jit
def entries_of(values, indices, rows, first, stop, column, width, ENTRIES: tl.constexpr):
    """Return some entries of a token: places, latents, values, and a slice of the latents' rows.

    Behind the last entry the values and the slice are 0.
    """
    entry = first + tl.arange(0, ENTRIES)
    value = tl.load(values + entry, mask=entry < stop, other=0.0).to(tl.float32)
    index = tl.load(indices + entry, mask=entry < stop, other=0)
    inside = (entry < stop)[:, None] & (column < width)[None, :]
    tile = tl.load(rows + index[:, None] * width + column[None, :], mask=inside, other=0.0)
    return entry, index, value, tile.to(tl.float32)


@triton.jit
def below(
    values, indices, rows, start, stop, end, column, width, ENTRIES: tl.constexpr, COLUMNS: tl.constexpr
):
    """Return what the latents below `end` of a token with many entries add up to, a slice of it."""
    total = tl.zeros([COLUMNS], tl.float32)
    for first in range(start, stop, ENTRIES):
        _, index, value, tile = entries_of(values, indices, rows, first, stop, column, width, ENTRIES)
        total += tl.sum(tile * tl.where(index < end, value, 0.0)[:, None], axis=0)
    return total


@triton.jit
def residuals(
    target,
    values,
    indices,
    offsets,
    rows,
    ends,
    n_kept,
    out,
    squares,
    products,
    width,
    nnz,
    PREFIXES: tl.constexpr,
    ENTRIES: tl.constexpr,
    COLUMNS: tl.constexpr,
    GUARDED: tl.constexpr,
    LONG: tl.constexpr,
):
    """Write what prefixes of the latents leave of each token, and the products of the rest with the rows.

    Everything comes from one gather. `r_m = target - sum over the latents below ends[m]`, `R_p = sum of r_m
    over m >= p`: `out[token, p] = R_p`, `squares[slice, token] = sum of r_m^2`, and `products[slice, entry] =
    <R_p, row>` with the first prefix `p` that has the entry's latent; over a slice of the columns. All are
    sums over columns, so that a slice of the rows is read once and serves all; where a token has more than
    `ENTRIES` entries, as some may if `LONG`, it is read again, from the cache. Guarded, nothing is done where
    `n_kept` is 0.
    """
    if GUARDED:
        if tl.load(n_kept) == 0:
            return
    token, piece = tl.program_id(0).to(tl.int64), tl.program_id(1)
    start, stop = tl.load(offsets + token), tl.load(offsets + token + 1)
    column = piece * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < width
    goal = tl.load(target + token * width + column, mask=inside, other=0.0).to(tl.float32)
    place = products + piece.to(tl.int64) * nnz
    square = tl.zeros([COLUMNS], tl.float32)
    suffix = tl.zeros([COLUMNS], tl.float32)
    if not LONG or stop - start <= ENTRIES:
        entry, index, value, tile = entries_of(values, indices, rows, start, stop, column, width, ENTRIES)
        scaled = tile * value[:, None]
        product = tl.zeros([ENTRIES], tl.float32)
        for m in tl.static_range(PREFIXES - 1, -1, -1):
            if PREFIXES == 1:
                rest = goal - tl.sum(scaled, axis=0)
            else:
                rest = goal - tl.sum(tl.where((index < tl.load(ends + m))[:, None], scaled, 0.0), axis=0)
            square += rest * rest
            suffix += rest
            tl.store(
                out + (token * PREFIXES + m) * width + column, suffix.to(out.dtype.element_ty), mask=inside
            )
            ours = tl.sum(tile * suffix[None, :], axis=1)
            product = tl.where(index < tl.load(ends + m), ours, product)
        tl.store(place + entry, product, mask=entry < stop)
    else:
        for m in tl.static_range(PREFIXES - 1, -1, -1):
            end = tl.load(ends + m)
            rest = goal - below(values, indices, rows, start, stop, end, column, width, ENTRIES, COLUMNS)
            square += rest * rest
            suffix += rest
            tl.store(
                out + (token * PREFIXES + m) * width + column,
                suffix.to(out.dtype.element_ty),
                mask=inside,
            )
            for first in range(start, stop, ENTRIES):
                entry, index, value, tile = entries_of(
                    values, indices, rows, first, stop, column, width, ENTRIES
                )
                ours = tl.sum(tile * suffix[None, :], axis=1)
                tl.store(place + entry, ours, mask=(entry < stop) & (index < end))
    total = tl.sum(tl.where(inside, square, 0.0), axis=0)
    tl.store(squares + piece * tl.num_programs(0) + token, total)


@triton.jit
def add_row(x, values, indices, rows, n_kept, out, width, COLUMNS: tl.constexpr):
    """Write `out[token] = x[token] + value * rows[index]`, with one entry per token.

    Nothing is written where `n_kept` is 0.
    """
    if tl.load(n_kept) == 0:
        return
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < width
    row = rows + tl.load(indices + token) * width + column
    added = tl.load(values + token).to(tl.float32) * tl.load(row, mask=inside, other=0.0).to(tl.float32)
    total = tl.load(x + token * width + column, mask=inside, other=0.0).to(tl.float32) + added
    tl.store(out + token * width + column, total.to(out.dtype.element_ty), mask=inside)


@triton.jit
def weighted_rows(weights, order, tokens, left, first, stop, column, width, MANY: tl.constexpr):
    """Return some entries of a latent: places, weights, and a slice of `weight * left[token]`.

    The slice is 0 where the weight is 0.
    """
    entry = first + tl.arange(0, MANY)
    place = tl.load(order + entry, mask=entry < stop, other=0)
    weight = tl.load(weights + place, mask=entry < stop, other=0.0)
    token = tl.load(tokens + place, mask=entry < stop, other=0)
    inside = (weight != 0)[:, None] & (column < width)[None, :]
    tile = tl.load(left + token[:, None] * width + column[None, :], mask=inside, other=0.0)
    return place, weight, tile.to(tl.float32) * weight[:, None]


@triton.jit
def sum_pieces(
    weights,
    order,
    latents,
    tokens,
    left,
    pieces,
    nnz,
    width,
    LENGTH: tl.constexpr,
    MANY: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Write `pieces[i]`, the sum of `weight * left[token]` over the `LENGTH` entries from `i * LENGTH` on.

    It is written only if all of these entries are of one latent. So a latent that is active on many tokens is
    summed by many programs.
    """
    piece = tl.program_id(0).to(tl.int64)
    first = piece * LENGTH
    stop = first + LENGTH
    if stop <= nnz:
        if tl.load(latents + first) == tl.load(latents + stop - 1):
            column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
            total = tl.zeros([MANY, COLUMNS], tl.float32)
            for start in range(first, stop, MANY):
                _, _, tile = weighted_rows(weights, order, tokens, left, start, stop, column, width, MANY)
                total += tile
            tl.store(pieces + piece * width + column, tl.sum(total, axis=0), mask=column < width)


@triton.jit
def sum_by_latent(
    weights,
    order,
    offsets,
    tokens,
    left,
    pieces,
    others,
    rows,
    out,
    width,
    LENGTH: tl.constexpr,
    MANY: tl.constexpr,
    COLUMNS: tl.constexpr,
    PARALLEL: tl.constexpr,
):
    """Return `out[j] = sum of weight * left[token]` over the entries of latent `j`, sorted by `order`.

    With `PARALLEL`, less what is parallel to `rows[j]` of unit norm: `sum of weight * other` over its
    entries, where `other` is the product of `left[token]` with the row.
    """
    latent = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    start, stop = tl.load(offsets + latent), tl.load(offsets + latent + 1)
    head = tl.minimum(stop, (start + LENGTH - 1) // LENGTH * LENGTH)
    tail = tl.maximum(head, stop // LENGTH * LENGTH)
    total = tl.zeros([MANY, COLUMNS], tl.float32)
    for first in range(start, head, MANY):
        _, _, tile = weighted_rows(weights, order, tokens, left, first, head, column, width, MANY)
        total += tile
    for first in range(tail, stop, MANY):
        _, _, tile = weighted_rows(weights, order, tokens, left, first, stop, column, width, MANY)
        total += tile
    result = tl.sum(total, axis=0)
    for piece in range(head // LENGTH, tail // LENGTH):
        result += tl.load(pieces + piece * width + column, mask=column < width, other=0.0)
    if PARALLEL:
        along = tl.zeros([128], tl.float32)
        for first in range(start, stop, 128):
            entry = first + tl.arange(0, 128)
            place = tl.load(order + entry, mask=entry < stop, other=0)
            weight = tl.load(weights + place, mask=entry < stop, other=0.0)
            along += weight * tl.load(others + place, mask=entry < stop, other=0.0)
        row = tl.load(rows + latent * width + column, mask=column < width, other=0.0).to(tl.float32)
        result -= tl.sum(along, axis=0) * row
    tl.store(out + latent * width + column, result, mask=column < width)


@triton.jit
def sum_values(values, order, offsets, tokens, sums, n_first, d_sae, MANY: tl.constexpr):
    """Write the sums of each latent's entries over two groups of tokens.

    `sums[0, j]` is over the first `n_first` tokens, `sums[1, j]` over all other tokens.
    """
    latent = tl.program_id(0).to(tl.int64)
    start, stop = tl.load(offsets + latent), tl.load(offsets + latent + 1)
    mine, rest = tl.zeros([MANY], tl.float32), tl.zeros([MANY], tl.float32)
    for first in range(start, stop, MANY):
        entry = first + tl.arange(0, MANY)
        place = tl.load(order + entry, mask=entry < stop, other=0)
        value = tl.load(values + place, mask=entry < stop, other=0.0)
        early = tl.load(tokens + place, mask=entry < stop, other=0) < n_first
        mine += tl.where(early, value, 0.0)
        rest += tl.where(early, 0.0, value)
    tl.store(sums + latent, tl.sum(mine, axis=0))
    tl.store(sums + d_sae + latent, tl.sum(rest, axis=0))


@triton.jit
def unit_rows(rows, width, tiny, WIDTH: tl.constexpr):
    """Divide each row by its norm, in one pass; a row of zeros stays."""
    row, column = tl.program_id(0).to(tl.int64), tl.arange(0, WIDTH)
    values = tl.load(rows + row * width + column, mask=column < width, other=0.0)
    wide = values.to(tl.float32)
    wide = wide / tl.maximum(tl.sqrt(tl.sum(wide * wide, axis=0)), tiny)
    tl.store(rows + row * width + column, wide.to(values.dtype), mask=column < width)
