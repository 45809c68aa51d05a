"""TensorBoard in the run folder."""

from importlib.util import find_spec
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from lightning_sae.tracking.hydra_job import this_job, tracker_config
from lightning_sae.training.checkpoint_io import read_checkpoint


class RunTensorBoardLogger(TensorBoardLogger):
    """Lightning's TensorBoard logger, writing to `tensorboard/` in the run folder.

    Args:
        save_dir: the run folder.
        ckpt_path: checkpoint that the run resumes from: what was logged after its step is not shown.

    Raises:
        ModuleNotFoundError: TensorBoard is not installed.
    """

    def __init__(self, save_dir: str, ckpt_path: str | None = None) -> None:
        if find_spec("tensorboard") is None:
            raise ModuleNotFoundError('TensorBoard is not installed: pip install -e ".[tensorboard]"')
        beyond = None if ckpt_path is None else int(read_checkpoint(ckpt_path)["global_step"])
        super().__init__(save_dir, name="tensorboard", version="", default_hp_metric=False, purge_step=beyond)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Log the run's config, without clutter."""
        super().log_hyperparams(tracker_config(params, this_job().choices), *args, **kwargs)
