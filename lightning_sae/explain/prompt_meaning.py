"""The test of whether a latent means a prompt, by its top images, the judge and the run's own tests."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_sae.concepts.meaning import class_meaning, meaning_tests
from lightning_sae.runs.folder import RunFolder


class PromptMeaning:
    """Agreement of the latents' top images with a prompt, by the judge and the run's own tests."""

    def __init__(self, run: RunFolder) -> None:
        self.run, self.embeddings = run, run.judge_embeddings()
        self.tests = meaning_tests(run.config)

    def judge(self, tops: Sequence[Sequence[int]], prompt: str) -> tuple[Tensor, Tensor]:
        """Return each latent's mean cosine with the prompt, and whether it does not mean the prompt.

        A latent does not mean the prompt if its top images agree with the prompt no better than random ones
        and, where the prompt names a class of the data, worse than images of the class.

        Args:
            tops: ids of the top validation images of each latent; without any the cosine is NaN.
            prompt: a text.
        """
        text = self.run.data.judge.encode_text([prompt]).to(self.embeddings)
        most = max(1, *map(len, tops))
        ids = torch.tensor([[*row] + [-1] * (most - len(row)) for row in tops])
        data = self.run.data
        c = named_class(prompt, data.class_names)
        shown = (
            torch.where(data.images("val").targets == c, 0, -1)
            if c >= 0
            else torch.full((len(self.embeddings),), -1)
        )
        found = class_meaning(ids, self.embeddings, text, shown, tests=self.tests)
        random = found.p_random[:, 0] > self.tests.level
        return found.agreement[:, 0], found.foreign[:, 0] if bool(found.asked) else random


def named_class(prompt: str, class_names: Sequence[str]) -> int:
    """Return the class whose name occurs in a prompt, the longest name of several; -1 for none.

    Example:
        >>> named_class("a photo of a sea lion", ["lion", "sea lion", "dog"])
        1
    """
    said, *plain = [" ".join(re.findall(r"[^\W_]+", text.lower())) for text in (prompt, *class_names)]
    held = [c for c, name in enumerate(plain) if name and f" {name} " in f" {said} "]
    return max(held, key=lambda c: len(plain[c]), default=-1)
