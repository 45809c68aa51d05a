"""The top images that the judge is asked about."""

from types import SimpleNamespace

import pandas as pd
import torch

from lightning_sae.audit.evidence.judgement import _top_ids
from lightning_sae.types import SparseLatents


def run(*top_images):
    return SimpleNamespace(latents=pd.DataFrame({"top_images": list(top_images)}))


def test_they_are_as_many_as_the_run_had():
    latents = SparseLatents.from_dense(torch.tensor([[1.0, 0.0], [3.0, 2.0], [2.0, 0.0]]))
    assert _top_ids(run("1 2", "1"), latents).tolist() == [[1, 2], [1, -1]]


def test_no_latent_fired():
    assert _top_ids(run("", ""), SparseLatents.from_dense(torch.zeros(3, 2))).tolist() == [[-1], [-1]]
