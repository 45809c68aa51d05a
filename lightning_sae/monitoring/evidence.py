"""The evidence so far that a mean is not what it was: an e-process per test, in constant memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lightning_sae.monitoring import starts
from lightning_sae.monitoring.bets import ODDS, Array, gain
from lightning_sae.monitoring.e_values import e_bh
from lightning_sae.monitoring.families import ImageEntries

NEVER = -1


@dataclass
class MeanEvidence:
    """The wealth of every test: what each bet has placed in parts at many starts, and what is not yet placed.

    With `share_s` of the wealth placed at start `s`, `A_t = (A_(t-1) + share_t) * factor_t` is what all
    starts of a bet are worth together (Shiryaev 1963, Roberts 1966); as the shares sum to 1, `reserve + mean
    of A over the bets` is a supermartingale from 1 where nothing has changed, and reaches `1 / alpha` at any
    time with probability at most `alpha` (Ville 1939). Beside this, each bet runs from its best start (Page
    1954), which says since when the mean has changed, and by how much.

    Attributes:
        placed: `[bets, tests]`, logarithm of `A`.
        carried: `[tests]`, logarithm of the wealth of other machines that was merged.
        best: `[bets, tests]`, logarithm of a bet's wealth from its best start on.
        since: `[bets, tests]` int64, images that had been seen at that start.
        counted: `[bets, tests]` int64, images of the test since then.
        total: `[bets, tests]`, sum of its numbers since then.
        raised: `[tests]` int64, images that had been seen when the test first rejected; `NEVER`.
        seen: number of images that have been seen.
        began: how many of them were seen before the first start: all that was merged.
    """

    placed: Array
    carried: Array
    best: Array
    since: NDArray[np.int64]
    counted: NDArray[np.int64]
    total: Array
    raised: NDArray[np.int64]
    seen: int = 0
    began: int = 0

    @classmethod
    def empty(cls, tests: int) -> Self:
        """Return no evidence."""
        shape = (len(ODDS), tests)
        return cls(
            placed=np.full(shape, -np.inf),
            carried=np.zeros(tests),
            best=np.zeros(shape),
            since=np.zeros(shape, dtype=np.int64),
            counted=np.zeros(shape, dtype=np.int64),
            total=np.zeros(shape),
            raised=np.full(tests, NEVER),
        )

    def log_e(self) -> Array:
        """Return `[tests]`, the logarithm of the e-value of each test."""
        return self._log_e(self.placed, -(-self._own // starts.EVERY))

    def _log_e(self, placed: Array, begun: int) -> Array:
        own = np.logaddexp.reduce(placed, axis=0) - np.log(len(ODDS))
        log_e: Array = self.carried + np.logaddexp(own, starts.log_reserve(begun))
        return log_e

    @property
    def _own(self) -> int:
        """Images since the first start."""
        return self.seen - self.began

    def start(self) -> None:
        """Place the share of the wealth that is meant for the next start, if that start is due."""
        if self._own % starts.EVERY:
            return
        self.placed = np.logaddexp(self.placed, starts.log_share(self._own // starts.EVERY))
        lost = self.best <= 0
        for part, value in ((self.best, 0), (self.since, self.seen), (self.counted, 0), (self.total, 0)):
            part[lost] = value

    def room(self) -> int:
        """Return how many images there are until the next start."""
        return starts.EVERY - self._own % starts.EVERY

    def highest(self, peaks: Array) -> Array:
        """Return a bound that `log_e` exceeds at no image of a part, by the gains of `Watch.peaks`."""
        return self._log_e(self.placed + peaks, 1 + self._own // starts.EVERY)

    def add(self, gains: Array, paid: Array, totals: Array, counts: NDArray[np.int64], n: int) -> None:
        """Add images, no more than there is `room` for.

        Args:
            gains: `[bets, tests]`, sums of `gain`.
            paid: `[bets, tests]`, `price` of each bet times the images of the test.
            totals: `[tests]`, sums of the numbers.
            counts: `[tests]`, images of each test.
            n: images.
        """
        change = gains - paid
        self.placed += change
        self.best += change
        self.counted += counts
        self.total += totals
        self.seen += n


@dataclass(frozen=True)
class Watch:
    """The hypothesis that the evidence is against: means within bounds, at a level.

    Attributes:
        prices: `[bets, tests]`, `price` of each bet at the bound that it bets on leaving.
        family: `[tests]` int64, column of `ImageEntries.counted` that says which images count.
        weight: `[tests]` with mean 1.
        alpha: false discovery rate of the alarms at any time; chance of any where nothing has changed.
    """

    prices: Array
    family: NDArray[np.int64]
    weight: Array
    alpha: float

    def rejected(self, log_e: Array) -> NDArray[np.bool_]:
        """Return the tests that reject (`e_bh`), `[tests]`."""
        return e_bh(log_e + np.log(self.weight), self.alpha)

    def update(self, evidence: MeanEvidence, entries: ImageEntries) -> None:
        """Add images one after the other, and note after which of them a test first rejects.

        Images are added together where even the largest e-values that they can lead to reject no new test.
        """
        at, n = 0, entries.n
        while at < n:
            evidence.start()
            stop = min(n, at + evidence.room())
            part = entries.slice(at, stop)
            sums = self._sums(part)
            highest = evidence.highest(self.peaks(part, sums[0] - sums[1]))
            if (self.rejected(highest) & (evidence.raised == NEVER)).any():
                for i in range(part.n):
                    one = part.slice(i, i + 1)
                    evidence.add(*self._sums(one), n=1)
                    self._note(evidence)
            else:
                evidence.add(*sums, n=part.n)
            at = stop

    def peaks(self, entries: ImageEntries, change: Array) -> Array:
        """Return the most that each bet gains up to any of the images, `[bets, tests]` >= 0.

        A bet on a rise is highest right after an image whose number is not 0, a bet on a fall right before
        such an image, or at the end.

        Args:
            entries: of the images.
            change: what each bet gains up to the last.
        """
        peaks = change.clip(min=0)
        if not len(entries.tests):
            return peaks
        order = np.argsort(entries.tests, kind="stable")
        tests, values = entries.tests[order], entries.values[order]
        first = np.flatnonzero(np.diff(tests, prepend=-1))
        won = gain(values, ODDS)
        sums = won.cumsum(1)
        sums -= (sums[:, first] - won[:, first]).repeat(np.diff(first, append=len(tests)), axis=1)
        counts = entries.counted.cumsum(0)[entries.images[order], self.family[tests]]
        after = sums - self.prices[:, tests] * counts
        before = after - won + self.prices[:, tests]
        turning = np.where((ODDS > 1)[:, None], after, before)
        at = tests[first]
        peaks[:, at] = np.maximum(peaks[:, at], np.maximum.reduceat(turning, first, axis=1))
        return peaks

    def _sums(self, entries: ImageEntries) -> tuple[Array, Array, Array, NDArray[np.int64]]:
        tests = len(self.weight)
        counts: NDArray[np.int64] = entries.counted.sum(0)[self.family]
        won = gain(entries.values, ODDS)
        gains: Array = np.stack([np.bincount(entries.tests, bet, tests) for bet in won])
        totals: Array = np.bincount(entries.tests, entries.values, tests).astype(float)
        return gains, self.prices * counts, totals, counts

    def _note(self, evidence: MeanEvidence) -> None:
        new = self.rejected(evidence.log_e()) & (evidence.raised == NEVER)
        evidence.raised[new] = evidence.seen


def merge_evidence(parts: Sequence[MeanEvidence]) -> MeanEvidence:
    """Return the evidence of several machines together, which goes on with all its wealth to be placed.

    Each machine's wealth is a supermartingale whatever the others have seen, so their product is one too: a
    machine begins with what the one before has won. For this no image may have been seen by two of them.
    """
    whole = MeanEvidence.empty(parts[0].placed.shape[1])
    whole.seen = whole.began = sum(part.seen for part in parts)
    whole.carried = np.sum([part.log_e() for part in parts], axis=0)
    ahead = np.stack([part.best for part in parts]) > 0
    for name in ("best", "counted", "total"):
        values = np.stack([getattr(part, name) for part in parts])
        setattr(whole, name, np.where(ahead, values, 0).sum(0))
    whole.since = whole.seen - np.where(ahead, [part.seen - part.since for part in parts], 0).max(0)
    raised = np.stack([part.raised for part in parts])
    whole.raised = np.where((raised != NEVER).any(0), whole.seen, NEVER)
    return whole
