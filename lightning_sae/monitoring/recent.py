"""The latest images: their numbers, and small pictures of them where these were asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from lightning_sae.monitoring.image_numbers import ImageNumbers

MOST = 1000
"""Images that are remembered."""


@dataclass
class Recent:
    """The latest images.

    Attributes:
        numbers: of them, the oldest first.
        places: how many images had been seen up to and with each.
        pictures: of each as WebP; "" without.
    """

    numbers: ImageNumbers
    places: list[int] = field(default_factory=list)
    pictures: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.places)

    def add(self, numbers: ImageNumbers, seen: int, pictures: Sequence[bytes]) -> None:
        """Add images.

        Args:
            numbers: of `n` images.
            seen: images that had been seen before them.
            pictures: of each; none at all without.
        """
        n = numbers.n
        both = ImageNumbers.stack([self.numbers, numbers])
        first = max(0, both.n - MOST)
        self.numbers = both.images(first, both.n)
        self.places = [*self.places, *range(seen + 1, seen + n + 1)][first:]
        self.pictures = [*self.pictures, *(pictures or [b""] * n)][first:]

    def after(self, place: int) -> "Recent":
        """Return the images that came after so many others."""
        first = next((i for i, each in enumerate(self.places) if each > place), len(self))
        return self.slice(first)

    def slice(self, first: int) -> "Recent":
        """Return those from the `first` on."""
        return Recent(self.numbers.images(first, len(self)), self.places[first:], self.pictures[first:])


def merge_recent(parts: Sequence[Recent], seen: int) -> Recent:
    """Return the latest images of several machines, equally many of each, numbered as the last of all.

    Args:
        parts: of the machines.
        seen: images of all of them.
    """
    some = [part.slice(max(0, len(part) - MOST // len(parts))) for part in parts]
    n = sum(map(len, some))
    return Recent(
        ImageNumbers.stack([part.numbers for part in some]),
        [*range(seen - n + 1, seen + 1)],
        [picture for part in some for picture in part.pictures],
    )
