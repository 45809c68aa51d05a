"""Capture as an array of SLURM jobs, through submitit."""

from typing import Any

from lightning_sae.data.datamodule import ActivationDataModule
from lightning_sae.data.engines.process import work
from lightning_sae.trust.control_characters import visible


def slurm(
    data: ActivationDataModule,
    config: dict[str, Any],
    jobs: int = 4,
    folder: str = "capture_jobs",
    cluster: str | None = "slurm",
    num_threads: int | None = None,
    max_requeues: int = 20,
    **parameters: Any,
) -> None:
    """Submit equal jobs, each of which captures its share, and wait for them.

    A job that is preempted or reaches its time limit is queued again; one that dies for another reason leaves
    its share to the others.

    Args:
        data: not used, every job builds its own.
        config: the resolved `data` group.
        jobs: length of the array.
        folder: of scripts and logs, seen by all machines.
        cluster: `slurm`, or `local` for processes on this machine.
        num_threads: of torch in each job; `None` is what SLURM gives.
        max_requeues: after time limits.
        parameters: further ones of `submitit.AutoExecutor.update_parameters`; `None` leaves one out.

    Raises:
        ModuleNotFoundError: submitit is not installed.
        RuntimeError: jobs failed; names their logs.
    """
    try:
        import submitit
        from submitit.helpers import Checkpointable
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('engine=slurm needs submitit: pip install -e ".[slurm]"') from error

    processes = jobs if cluster == "local" else 1  # SLURM gives each job cores of its own

    class Work(Checkpointable):  # queued again it goes on: what is done lies in the store
        def __call__(self, config: dict[str, Any], num_threads: int | None) -> None:
            work(config, num_threads, processes)

    executor = submitit.AutoExecutor(folder, cluster=cluster, slurm_max_num_timeout=max_requeues)
    executor.update_parameters(**{key: value for key, value in parameters.items() if value is not None})
    task = Work()  # type: ignore[no-untyped-call]
    submitted = executor.map_array(task, [config] * jobs, [num_threads] * jobs)
    ids = ", ".join(job.job_id for job in submitted)
    print(visible(f"jobs {ids}, logs in {executor.folder}"), flush=True)
    failed = [job for job in submitted if job.exception() is not None]
    if failed:
        raise RuntimeError(
            f"{len(failed)} of {jobs} jobs failed, the first with\n{failed[0].exception()}\nLogs: "
            f"{', '.join(str(job.paths.stderr) for job in failed)}. What is captured stays: run it again"
        )
