"""Programs that find the largest entries of a product's rows: maxima of groups, candidates, a new ranking."""

import triton
import triton.language as tl

LOWEST = tl.constexpr(-0x80000000)  # below the image of every float


@triton.jit
def ordered(x):
    """Return the integers in the order of the floats `x`, of as many bits; -0 is below 0."""
    width: tl.constexpr = x.dtype.primitive_bitwidth
    integer: tl.constexpr = tl.int32 if width == 32 else tl.int16
    bits = x.to(integer, bitcast=True).to(tl.int32)
    return bits ^ ((bits >> 31) & ((1 << (width - 1)) - 1))


@triton.jit
def unordered(keys, x):
    """Return in float32 the entries of `x` that `ordered` has made these keys of."""
    width: tl.constexpr = x.dtype.element_ty.primitive_bitwidth
    integer: tl.constexpr = tl.int32 if width == 32 else tl.int16
    bits = keys ^ ((keys >> 31) & ((1 << (width - 1)) - 1))
    return bits.to(integer).to(x.dtype.element_ty, bitcast=True).to(tl.float32)


@triton.jit
def halfway(low, high):
    """Return the middle of two integers, whose sum may overflow."""
    return (low & high) + ((low ^ high) >> 1)


@triton.jit
def kth_largest(keys, k):
    """Return the largest number that at least `k` of the keys reach; their least if there are fewer."""
    low, high = tl.min(keys, axis=0), tl.max(keys, axis=0) + 1
    while low + 1 < high:
        middle = halfway(low, high)
        enough = tl.sum((keys >= middle).to(tl.int32), axis=0) >= k
        low, high = tl.where(enough, middle, low), tl.where(enough, high, middle)
    return low


@triton.jit
def group_maxima(
    x,
    kept,
    n_kept,
    maxima,
    n_columns,
    n_groups,
    GROUP: tl.constexpr,
    BLOCK: tl.constexpr,
    MASKED: tl.constexpr,
):
    """Write to `maxima[row, g]` the largest of `GROUP` neighbouring entries of `x [n, n_columns]`.

    NaN is left out. With `MASKED` the maximum is over the columns that `kept` names; nothing is done where
    `kept` names none.
    """
    row = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    column = group[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    inside = column < n_columns
    if MASKED:
        if tl.load(n_kept) == 0:
            return
        inside = inside & (tl.load(kept + column, mask=inside, other=0) != 0)
    entries = tl.load(x + row * n_columns + column, mask=inside, other=-float("inf"))
    tl.store(maxima + row * n_groups + group, tl.max(entries, axis=1), mask=group < n_groups)


@triton.jit
def reaching(
    x, maxima, kept, row, column, least, n_columns, n_groups, GROUP: tl.constexpr, MASKED: tl.constexpr
):
    """Return the keys of some entries of a row, `LOWEST` where they do not reach `least`.

    Only entries of groups whose maximum reaches `least` are read.
    """
    inside = column < n_columns
    largest = tl.load(maxima + row * n_groups + column // GROUP, mask=inside, other=-float("inf"))
    inside = inside & (ordered(largest) >= least)
    if MASKED:
        inside = inside & (tl.load(kept + column, mask=inside, other=0) != 0)
    keys = ordered(tl.load(x + row * n_columns + column, mask=inside, other=-float("inf")))
    return tl.where(inside & (keys >= least), keys, LOWEST)


@triton.jit
def count_reaching(
    x,
    maxima,
    kept,
    row,
    least,
    n_columns,
    n_groups,
    GROUP: tl.constexpr,
    MASKED: tl.constexpr,
    LANES: tl.constexpr,
):
    """Return how many entries of each lane of a row are above `least`, and how many equal it."""
    lane = tl.arange(0, LANES)
    above, equal = tl.zeros([LANES], tl.int32), tl.zeros([LANES], tl.int32)
    for start in range(0, n_columns, LANES):
        keys = reaching(x, maxima, kept, row, start + lane, least, n_columns, n_groups, GROUP, MASKED)
        above += (keys > least).to(tl.int32)
        equal += (keys == least).to(tl.int32)
    return above, equal


@triton.jit
def collect(
    x,
    maxima,
    kept,
    n_kept,
    found,
    counts,
    cuts,
    n_columns,
    n_groups,
    wanted,
    CAP: tl.constexpr,
    GROUPS: tl.constexpr,
    GROUP: tl.constexpr,
    LANES: tl.constexpr,
    MASKED: tl.constexpr,
):
    """Return the columns of at least `wanted <= CAP` largest entries of a row, `found[row, :counts[row]]`.

    What reaches the `wanted`-th largest maximum of the groups are at least `wanted` entries, and seldom many
    more. If they are more than `CAP` the threshold rises, and of those that equal it only some are taken.
    `cuts[row]` is the threshold: no entry above it is left out.
    """
    row = tl.program_id(0).to(tl.int64)
    if MASKED:
        if tl.load(n_kept) == 0:
            tl.store(counts + row, 0)
            return
    group = tl.arange(0, GROUPS)
    real = group < n_groups
    best = ordered(tl.load(maxima + row * n_groups + group, mask=real, other=-float("inf")))
    least, most = kth_largest(best, wanted), tl.max(best, axis=0) + 1
    above, equal = count_reaching(x, maxima, kept, row, least, n_columns, n_groups, GROUP, MASKED, LANES)
    total = tl.sum(above + equal, axis=0)
    while (total > CAP) & (least + 1 < most):
        middle = halfway(least, most)
        higher, same = count_reaching(x, maxima, kept, row, middle, n_columns, n_groups, GROUP, MASKED, LANES)
        number = tl.sum(higher + same, axis=0)
        enough = number >= wanted
        above, equal = tl.where(enough, higher, above), tl.where(enough, same, equal)
        total, least, most = (
            tl.where(enough, number, total),
            tl.where(enough, middle, least),
            tl.where(enough, most, middle),
        )
    first = tl.cumsum(above, axis=0) - above
    second = tl.sum(above, axis=0) + tl.cumsum(equal, axis=0) - equal
    lane = tl.arange(0, LANES)
    for start in range(0, n_columns, LANES):
        column = start + lane
        keys = reaching(x, maxima, kept, row, column, least, n_columns, n_groups, GROUP, MASKED)
        slot = tl.where(keys > least, first, second)
        tl.store(found + row * CAP + slot, column, mask=(keys >= least) & (keys > LOWEST) & (slot < CAP))
        first += (keys > least).to(tl.int32)
        second += ((keys == least) & (keys > LOWEST)).to(tl.int32)
    tl.store(counts + row, tl.minimum(total, CAP))
    tl.store(cuts + row, unordered(least, x))


@triton.jit
def collect_above(
    x,
    maxima,
    threshold,
    starts,
    counts,
    found,
    room,
    n_columns,
    n_groups,
    GROUP: tl.constexpr,
    LANES: tl.constexpr,
    WRITE: tl.constexpr,
):
    """Count the entries of a row that reach a threshold, or write their columns from `starts[row]` on."""
    row = tl.program_id(0).to(tl.int64)
    least = ordered(tl.load(threshold))
    above, equal = count_reaching(x, maxima, maxima, row, least, n_columns, n_groups, GROUP, False, LANES)
    number = above + equal
    if WRITE:
        slot = tl.load(starts + row) + tl.cumsum(number, axis=0) - number
        for start in range(0, n_columns, LANES):
            column = start + tl.arange(0, LANES)
            keys = reaching(x, maxima, maxima, row, column, least, n_columns, n_groups, GROUP, False)
            taken = keys > LOWEST
            tl.store(found + slot, column, mask=taken & (slot < room))
            slot += taken.to(tl.int64)
    else:
        tl.store(counts + row, tl.sum(number, axis=0))


@triton.jit
def rank_again(
    x,
    rows,
    found,
    starts,
    counts,
    scores,
    n_entries,
    width,
    PART: tl.constexpr,
    COLUMNS: tl.constexpr,
    SLICE: tl.constexpr,
):
    """Return `scores[slice, entry] = <x[token], rows[found[entry]]>` over a slice of the columns.

    Token `t` has the entries `starts[t] ... starts[t] + counts[t] - 1`. All tokens of a slice come before the
    next one, so that the slice of the rows stays in the cache.
    """
    token, piece = tl.program_id(0).to(tl.int64), tl.program_id(1)
    start, number = tl.load(starts + token), tl.load(counts + token)
    for first in range(0, number, PART):
        entry = first + tl.arange(0, PART)
        real = entry < number
        index = tl.load(found + start + entry, mask=real, other=0).to(tl.int64)
        total = tl.zeros([PART], tl.float32)
        for begin in tl.static_range(0, SLICE, COLUMNS):
            column = piece * SLICE + begin + tl.arange(0, COLUMNS)
            inside = column < width
            left = tl.load(x + token * width + column, mask=inside, other=0.0).to(tl.float32)
            tile = real[:, None] & inside[None, :]
            right = tl.load(rows + index[:, None] * width + column[None, :], mask=tile, other=0.0)
            total += tl.sum(right.to(tl.float32) * left[None, :], axis=1)
        tl.store(scores + piece.to(tl.int64) * n_entries + start + entry, total, mask=real)


@triton.jit
def choose(
    scores,
    found,
    starts,
    counts,
    bias,
    indices,
    values,
    n_entries,
    n_columns,
    k,
    SLICES: tl.constexpr,
    CAP: tl.constexpr,
):
    """Return the `k` best candidates of a token, by their scores and the bias; of equal ones the first.

    Where there are fewer, as among few dead latents, the others have the value -inf and any indices.
    """
    token = tl.program_id(0).to(tl.int64)
    slot = tl.arange(0, CAP)
    number = tl.load(counts + token)
    real = slot < number
    entry = tl.load(starts + token) + slot
    index = tl.load(found + entry, mask=real, other=0)
    score = tl.load(bias + index, mask=real, other=0.0).to(tl.float32)
    for piece in tl.static_range(0, SLICES):
        score += tl.load(scores + piece * n_entries + entry, mask=real, other=0.0)
    keys = tl.where(real, ordered(score), LOWEST)
    least = kth_largest(keys, k)
    above, equal = keys > least, (keys == least) & real
    room = k - tl.sum(above.to(tl.int32), axis=0)
    chosen = above | (equal & (tl.cumsum(equal.to(tl.int32), axis=0) <= room))
    place = tl.cumsum(chosen.to(tl.int32), axis=0) - 1
    tl.store(indices + token * k + place, index.to(tl.int64), mask=chosen)
    tl.store(values + token * k + place, score, mask=chosen)
    left = (slot >= tl.minimum(number, k)) & (slot < k)
    tl.store(indices + token * k + slot, (token + slot) % n_columns, mask=left)
    tl.store(values + token * k + slot, tl.full([CAP], -float("inf"), tl.float32), mask=left)


@triton.jit
def reached(counts, wanted, DIGITS: tl.constexpr):
    """Return the digits found so far: of each, how many of its values the `wanted` largest numbers allow."""
    prefix = tl.full((), 0, tl.int64)
    for digit in tl.static_range(0, DIGITS):
        value = tl.arange(0, 16)
        enough = (tl.load(counts + digit * 16 + value) >= wanted) & (value > 0)
        prefix = prefix * 16 + tl.sum(enough.to(tl.int64), axis=0)
    return prefix


@triton.jit
def count_digit(x, length, counts, n, wanted, DIGIT: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Count in `counts[DIGIT, v]` how many of the first `length` floats reach a prefix of digits.

    The prefix has the digits that were found before, and then `v`.
    """
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    real = (place < n) & (place < tl.load(length))
    one = tl.full((), 1, tl.int64)
    keys = ordered(tl.load(x + place, mask=real, other=0.0)).to(tl.int64) + (one << (WIDTH - 1))
    keys = tl.where(real, keys, -1)
    prefix = reached(counts, wanted, DIGIT) * 16
    for value in tl.static_range(1, 16):
        bound = (prefix + value) << (WIDTH - 4 - 4 * DIGIT)
        tl.atomic_add(counts + DIGIT * 16 + value, tl.sum((keys >= bound).to(tl.int64), axis=0))
