"""No process that decodes images outlives the one that it decodes for."""

import multiprocessing
import os
from threading import Thread


def end_with_parent(worker: int) -> None:
    """End this process as soon as the one that started it has ended, however it ended.

    PyTorch's own workers remember who their parent is when they first ask: one whose parent is killed before
    that waits for ever, and keeps open what it inherited, such as the pipe of whoever reads the output.

    Args:
        worker: number of the worker, as `worker_init_fn` of `DataLoader` gets it; it makes no difference.
    """
    Thread(target=_follow, name=f"parent-of-worker-{worker}", daemon=True).start()


def _follow() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
