"""The embedded world as a source of images."""

from typing import Any, Literal

from PIL import Image
from torch import Tensor

from lightning_sae.data.images.image_set import Split
from lightning_sae.world import World


class WorldSplit:
    """One split of the world as an `ImageSet`; `world` gives its scenes, captions and counterfactuals."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.class_names: list[str] = world.class_names

    @property
    def targets(self) -> Tensor:
        """`[n]` int64, class of each picture."""
        return self.world.targets

    @property
    def vocabulary(self) -> list[str]:
        """Every factor value as captions phrase it, and distractors."""
        return self.world.vocabulary

    @property
    def factors(self) -> dict[str, tuple[list[str], Tensor]]:
        """Class, colour, background and printed word of each picture."""
        return self.world.factors

    def __len__(self) -> int:
        return len(self.world)

    def __getitem__(self, index: int) -> Image.Image:
        return self.world.image(index)

    def identity(self) -> dict[str, Any]:
        """What the pictures are a function of."""
        world = self.world
        return {"name": f"world-{world.edition}-{world.split}", **world.identity()}


class WorldSource:
    """The worlds of three splits.

    Args:
        edition: `biased` or `balanced`; the pictures of val and test are unbiased in both.
        n_train: pictures to train on.
        n_val: pictures of `val`.
        n_test: pictures of `test`.
        seed: another seed draws other pictures.
    """

    def __init__(
        self,
        edition: Literal["biased", "balanced"] = "balanced",
        n_train: int = 24000,
        n_val: int = 4000,
        n_test: int = 4000,
        seed: int = 0,
    ) -> None:
        sizes: dict[Split, int] = {"train": n_train, "val": n_val, "test": n_test}
        self.worlds = {split: World(edition, split, n, seed) for split, n in sizes.items()}


class WorldImages(WorldSource):
    """The embedded world: pictures drawn on demand, with known factors; `WorldSource` has the arguments."""

    def split(self, name: Split) -> WorldSplit:
        """The pictures of one split."""
        return WorldSplit(self.worlds[name])
