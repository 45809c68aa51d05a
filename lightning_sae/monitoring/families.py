"""The tests: each is of the mean of one number over the images; they come in families."""

from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from lightning_sae.monitoring.bets import Array
from lightning_sae.monitoring.image_numbers import ImageNumbers
from lightning_sae.monitoring.scales import Scales

Family = Literal["firing", "attribution", "culprits", "error"]
PARTS: dict[Family, float] = {"firing": 0.75, "attribution": 0.125, "culprits": 0.0625, "error": 0.0625}
"""The families, and their parts of alpha: one with few tests needs less."""

FAMILIES: tuple[Family, ...] = tuple(PARTS)


class ImageEntries(NamedTuple):
    """The numbers of `n` images that are not 0, by test.

    Attributes:
        images: `[nnz]`, in `0..n-1`, ascending.
        tests: `[nnz]`.
        values: `[nnz]`, in (0, 1].
        counted: `[n, families]` bool, whether an image counts for the tests of a family.
    """

    images: NDArray[np.int64]
    tests: NDArray[np.int64]
    values: Array
    counted: NDArray[np.bool_]

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.counted)

    def slice(self, start: int, stop: int) -> Self:
        """Return the images `start..stop-1`."""
        first, last = np.searchsorted(self.images, [start, stop])
        part = slice(first, last)
        return type(self)(
            self.images[part] - start, self.tests[part], self.values[part], self.counted[start:stop]
        )


class Numbering(NamedTuple):
    """The numbering of the tests: a firing rate per latent, a mean attribution per latent, and two means.

    Attributes:
        d_sae: latents.
    """

    d_sae: int

    @property
    def sizes(self) -> list[int]:
        """Tests of each family."""
        return [self.d_sae, self.d_sae, 1, 1]

    @property
    def family(self) -> NDArray[np.int64]:
        """`[tests]`, the number of each test's family."""
        return np.repeat(np.arange(len(FAMILIES)), self.sizes)

    @property
    def weight(self) -> Array:
        """`[tests]` with mean 1: each family has its part of alpha, shared by its tests."""
        sizes, parts = np.array(self.sizes), np.array([*PARTS.values()])
        return np.repeat(sizes.sum() * parts / sizes, sizes)

    def named(self, test: int) -> tuple[Family, int | None]:
        """Return the family of a test, and its latent.

        Example:
            >>> Numbering(d_sae=10).named(3), Numbering(d_sae=10).named(13), Numbering(d_sae=10).named(21)
            (('firing', 3), ('attribution', 3), ('error', None))
        """
        family = FAMILIES[int(self.family[test])]
        return family, test % self.d_sae if test < 2 * self.d_sae else None

    def entries(self, numbers: ImageNumbers, scales: Scales) -> ImageEntries:
        """Return the numbers of images by test, brought into [0, 1]."""
        n, attributed = numbers.n, numbers.attributed.numpy()
        rows, latents = numbers.latents.rows().numpy(), numbers.latents.indices
        fires = numbers.latents.values > scales.fires[latents]
        shares = (numbers.shares.values / scales.share[latents]).clamp(max=1)
        error = ((numbers.error - scales.usual) / scales.width).clamp(0, 1)
        images, last = np.arange(n), 2 * self.d_sae
        parts = (
            (rows, latents.numpy(), fires.double().numpy()),
            (rows, latents.numpy() + self.d_sae, shares.double().numpy()),
            (images, np.full(n, last), numbers.culprits.double().numpy()),
            (images, np.full(n, last + 1), error.double().numpy()),
        )
        of_image, test, value = (np.concatenate(of_all) for of_all in zip(*parts, strict=True))
        there = value > 0
        order = np.flatnonzero(there)[np.argsort(of_image[there], kind="stable")]
        always = np.ones(n, dtype=bool)
        counted = np.stack([always, attributed, attributed, always], 1)
        return ImageEntries(of_image[order], test[order], value[order], counted)
