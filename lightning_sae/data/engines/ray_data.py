"""Capture in Ray Data: a row is a shard."""

import math
from typing import Any

from lightning_sae.data.datamodule import ActivationDataModule
from lightning_sae.data.engines.process import build


class ShardActor:
    """A worker that keeps its CLIP and makes one shard after the other."""

    def __init__(self, config: dict[str, Any], num_threads: int, processes: int) -> None:
        self.captures = build(config, num_threads, processes).captures()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Capture the shard that the row names, unless it is there."""
        return {"made": self.captures[row["part"]].capture_shards([row["shard"]])}


def ray_data(
    data: ActivationDataModule,
    config: dict[str, Any],
    workers: int = 2,
    num_cpus: float = 1,
    num_gpus: float | None = None,
    num_threads: int = 1,
    address: str | None = None,
) -> None:
    """Map the missing shards over a pool of actors; Ray starts one anew that dies.

    Args:
        data: knows what is missing, and writes the manifests.
        config: the resolved `data` group.
        workers: actors.
        num_cpus: for each.
        num_gpus: for each.
        num_threads: of torch in each.
        address: of a Ray cluster; `None` is this machine, or what `RAY_ADDRESS` says.

    Raises:
        ModuleNotFoundError: Ray is not installed.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('engine=ray needs Ray: pip install -e ".[ray]"') from error
    rows = [
        {"part": name, "shard": shard}
        for name, capture in data.captures().items()
        for shard in capture.missing()
    ]
    if rows:
        with ray.init(address=address, log_to_driver=False):  # shuts down what it started
            nodes = len(ray.nodes())  # type: ignore[no-untyped-call]
            ray.data.from_items(rows, override_num_blocks=len(rows)).map(
                ShardActor,  # type: ignore[arg-type]  # a class is fine where it says callable
                fn_constructor_args=(config, num_threads, math.ceil(workers / nodes)),
                compute=ray.data.ActorPoolStrategy(size=min(workers, len(rows))),
                num_cpus=num_cpus,
                num_gpus=num_gpus,
            ).materialize()
    if not any(capture.missing() for capture in data.captures().values()):
        data.fill()  # manifests and the probe
