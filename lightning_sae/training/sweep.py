"""What happens around the jobs of a multirun: a failed one does not end the others, and is listed."""

import atexit
import importlib.util
import os
import shlex
import sys
import traceback
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from lightning_sae.home import started_by
from lightning_sae.progress import JOB
from lightning_sae.training.settings import CONFIG, ERROR, save_settings
from lightning_sae.trust.control_characters import visible
from lightning_sae.trust.documents import read_yaml_list


class Sweep(Callback):
    """Keeps the error of a failed job as `error.txt` in its folder; the sweep goes on without its result.

    At the end it lists the failed jobs, each with its error and the command that runs it again, and the exit
    status is 1. W&B shows the jobs as one group, named by the sweep's folder, and each job is called by what
    it has of its own. Jobs in other processes show lines instead of bars, which would draw over each other.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse what cannot work, and name the group and the jobs."""
        _check_packages(config)
        _check_objective(config)
        _leave_out_of_names(config)
        os.environ.setdefault("WANDB_RUN_GROUP", str(config.hydra.sweep.dir))
        # a sweep that is broken off, or a job that was killed, does not come to on_multirun_end
        self._at_exit = atexit.register(_print_failed, Path(config.hydra.sweep.dir))

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Forget the error of an earlier try; one of several at the same time says which it is."""
        if config.hydra.mode == RunMode.MULTIRUN and "BasicLauncher" not in config.hydra.launcher._target_:
            os.environ[JOB] = f"job {config.hydra.job.num}"  # Hydra puts the environment back behind the job
        (Path(config.hydra.runtime.output_dir) / ERROR).unlink(missing_ok=True)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Turn an exception into a job without a result."""
        if job_return.status != JobStatus.FAILED or config.hydra.mode != RunMode.MULTIRUN:
            return
        error, folder = job_return._return_value, Path(config.hydra.runtime.output_dir)
        (folder / ERROR).write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        if not (folder / CONFIG).exists():  # it failed before the run began
            settings: Any = OmegaConf.to_container(job_return.cfg)
            save_settings(folder, settings)
        print(visible(f"\nJob {folder} failed: {type(error).__name__}: {error}", keep="\n"), file=sys.stderr)
        job_return.status, job_return.return_value = JobStatus.COMPLETED, None

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """List what failed."""
        atexit.unregister(self._at_exit)
        if _print_failed(Path(config.hydra.sweep.dir)):
            sys.exit(1)


def _leave_out_of_names(config: DictConfig) -> None:
    """Have `hydra.job.override_dirname` hold only what varies: no override that is the same in all jobs."""
    words = list(config.hydra.overrides.task)
    parsed = OverridesParser.create().parse_overrides(words)
    same = [override.key_or_group for override in parsed if not override.is_sweep_override()]
    left_out = [*config.hydra.job.config.override_dirname.exclude_keys, *same]
    quoted = ",".join(f"'{key}'" for key in dict.fromkeys(left_out))
    if quoted:
        config.hydra.overrides.hydra.append(f"hydra.job.config.override_dirname.exclude_keys=[{quoted}]")


def _check_packages(config: DictConfig) -> None:
    for group in ("launcher", "sweeper"):
        module = str(config.hydra[group]._target_).rsplit(".", 1)[0]
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            found = None
        if not found:
            choice = config.hydra.runtime.choices[f"hydra/{group}"]
            sys.exit(f'hydra/{group}={choice} needs packages that are not there: pip install -e ".[sweep]"')


def _check_objective(config: DictConfig) -> None:
    directions, names = config.hydra.sweeper.get("direction"), config.optimized_metric
    if directions is None:
        return
    wanted, given = (len(x) if isinstance(x, ListConfig) else int(x is not None) for x in (directions, names))
    if wanted != given or isinstance(directions, ListConfig) != isinstance(names, ListConfig):
        example = "[val/fvu,alignment/named]" if isinstance(directions, ListConfig) else "val/fvu"
        sys.exit(
            f"hydra.sweeper.direction={directions} needs what is to be optimised, got "
            f"optimized_metric={names}: say one metric per direction, such as optimized_metric={example}"
        )


def _print_failed(sweep_dir: Path) -> int:
    """Print one paragraph for each failed job, and return how many there are."""
    failed = sorted(sweep_dir.glob(f"*/{ERROR}"))
    for path in failed:
        overrides = [str(word) for word in read_yaml_list(path.parent / ".hydra" / "overrides.yaml")]
        command = f"{started_by()} {shlex.join([*overrides, f'hydra.run.dir={path.parent}'])}"
        error = path.read_text(encoding="utf-8").strip().splitlines()[-1]
        said = (f"Failed: {path.parent}", f"  {error}", f"  {command}")
        print("", *map(visible, said), sep="\n", file=sys.stderr)
    if failed:
        given = [word for word in sys.argv[1:] if not word.startswith("hydra.sweep.dir=")]
        again = f"{started_by()} {shlex.join([*given, f'hydra.sweep.dir={sweep_dir}'])}"
        what = f"{len(failed)} failed. All of them again, without those that are done:"
        print(f"\n{what}\n  {again}", file=sys.stderr)
    return len(failed)
