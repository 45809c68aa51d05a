"""TensorBoard in the run folder."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from lightning_sae.tracking.hydra_job import hyper_parameters, this_job, tracker_config
from lightning_sae.tracking.tracker import MAX_ROWS, Tracker
from lightning_sae.training.checkpoint_io import read_checkpoint


class RunTensorBoardLogger(Tracker, TensorBoardLogger):
    """Lightning's TensorBoard logger, writing to `tensorboard/` in the run folder.

    Its HParams tab has the settings that the weights depend on, flat (`hyper_parameters`), those that differ
    between runs first, and the last value of each curve: no value is logged a second time for it.

    Args:
        save_dir: the run folder.
        ckpt_path: checkpoint that the run resumes from: what was logged after its step is not shown.
        max_rows: rows of a table that are shown.

    Raises:
        ModuleNotFoundError: TensorBoard is not installed.
    """

    def __init__(self, save_dir: str, ckpt_path: str | None = None, max_rows: int = MAX_ROWS) -> None:
        if find_spec("tensorboard") is None:
            raise ModuleNotFoundError('TensorBoard is not installed: pip install -e ".[tensorboard]"')
        beyond = None if ckpt_path is None else int(read_checkpoint(ckpt_path)["global_step"])
        super().__init__(save_dir, name="tensorboard", version="", default_hp_metric=False, purge_step=beyond)
        self.max_rows = max_rows

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Log the run's config, without clutter, and what the HParams tab shows."""
        from torch.utils.tensorboard.summary import hparams  # has no types, and wants TensorBoard

        config = tracker_config(params, this_job().choices)
        super().log_hyperparams(config, *args, **kwargs)
        # without the first, the columns of one run, TensorBoard finds what there is in all of them
        _, start, end = hparams(self._sanitize_params(hyper_parameters(config)), {})  # type: ignore[no-untyped-call]
        for summary in (start, end):
            self.experiment._get_file_writer().add_summary(summary)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log values."""
        super().log_metrics(self.once(metrics, step), step)

    def show_table(self, key: str, table: pd.DataFrame, step: int) -> None:
        """Show a table, under Text."""
        with pd.option_context("display.max_colwidth", None):
            html = table.to_html(index=False, na_rep="", float_format="{:.4g}".format)
        self.experiment.add_text(key, html, step)

    def show_picture(self, key: str, path: Path, step: int) -> None:
        """Show the picture in a file, under Images."""
        pixels = np.asarray(Image.open(path).convert("RGB"))
        self.experiment.add_image(key, pixels, step, dataformats="HWC")
