"""Opened runs of the world, each with its page."""

import base64
import gzip
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from lightning_sae.report.packing import KINDS
from lightning_sae.runs.folder import open_run


def read_page(path):
    """The columns and arrays of a page, as a browser unpacks them."""
    text = path.read_text("utf-8")
    (columns,) = re.findall(r'id="latent-data">([^<]*)</script>', text)
    (arrays,) = re.findall(r'id="array-data">([^<]*)</script>', text)
    content = gzip.decompress(base64.b64decode(arrays))
    length = int.from_bytes(content[:4], "little")
    header, body = json.loads(content[4 : 4 + length]), content[4 + length :]
    found = {}
    for name, (kind, start, shape) in header.items():
        count = int(np.prod(shape))
        found[name] = np.frombuffer(body, KINDS[kind], count, start).reshape(shape)
    return SimpleNamespace(
        text=text, columns=json.loads(gzip.decompress(base64.b64decode(columns))), arrays=found
    )


SMALL = (
    *("data.n_train=512", "data.n_val=300", "data.n_test=1", "data.n_probe=8", "data.batch_size=256"),
    *("sae.d_sae=64", "sae.k=4", "module.decay_fraction=0", "trainer.accelerator=cpu", "logger=csv"),
    *("trainer.max_steps=40", "trainer.val_check_interval=40", "trainer.num_sanity_val_steps=0"),
    *(
        "~callbacks.faithfulness",
        "~callbacks.truth",
        "~callbacks.pairs",
        "~callbacks.gallery",
        "~callbacks.quality",
    ),
    *("callbacks.reliance.draws=100", "callbacks.alignment.draws=100", "callbacks.progress.refresh_rate=0"),
)


@pytest.fixture(scope="session")
def driven_run(train_py, tmp_path_factory):
    """Behind the last block, with attributions and reliance; the training has written its page."""
    folder = tmp_path_factory.mktemp("driven")
    assert train_py(*SMALL, f"data.store_dir={folder / 'store'}", f"hydra.run.dir={folder / 'run'}") == 0
    return open_run(folder / "run")


@pytest.fixture(scope="session")
def page(driven_run):
    """Its page, read."""
    return read_page(driven_run.folder / "report.html")


@pytest.fixture(scope="session")
def uneven_run(train_small):
    """Images with different numbers of active latents."""
    return open_run(train_small("uneven", "sae=batch_topk", "sae.k=4", "trainer.max_steps=30"))
