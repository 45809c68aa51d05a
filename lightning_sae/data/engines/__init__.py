"""Who runs a capture: this process, several devices, a SLURM array, Ray Data; one YAML each in `conf/engine`.

An engine is called with the datamodule and its configuration, from which other processes build their own. It
returns when its workers are done. Whatever they left is still missing in the store, and nothing else.
"""

from lightning_sae.data.engines.devices import devices
from lightning_sae.data.engines.process import in_process
from lightning_sae.data.engines.ray_data import ray_data
from lightning_sae.data.engines.slurm import slurm

__all__ = ["devices", "in_process", "ray_data", "slurm"]
