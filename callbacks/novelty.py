"""Which latents have no name yet, though their images are alike: concepts that the vocabulary lacks."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from callbacks.base import Pass, PassCallback
from lightning_sae.concepts.concept_labels import ConceptLabels
from lightning_sae.concepts.novelty import Novelty, clarity_null, find_novel
from lightning_sae.data import ActivationDataModule, cached_tensor


class NovelConcepts(PassCallback):
    """Finds the latents that encode something which no label names, at every validation pass.

    A latent is *novel* if its top images are more alike than random sets of images, by the judge, and it is
    not *named* (`callbacks.alignment`). Near copies are in one group.

    Logged:
        concepts/novel, concepts/novel_share: novel latents, and their share of those with a top image.
        concepts/novel_groups: groups of them.

    Columns of `latents.csv`: `clarity_p` (chance that as many random images are as alike), `novel`,
    `novel_group` (the largest is 0; -1 for what is not novel). See `lightning_sae.concepts.novelty`.

    Args:
        draws: random image sets behind a p-value; none is below `1 / (draws + 1)`.
        seed: of the draws.
        fdr: false discovery rate among the latents (Benjamini-Hochberg), in (0, 1).
    """

    uses = (ConceptLabels,)
    logs = ("concepts/novel", "concepts/novel_share", "concepts/novel_groups")

    def __init__(self, draws: int = 1000, seed: int = 0, fdr: float = 0.05) -> None:
        if draws < 1 or not 0 < fdr < 1:
            raise ValueError(f"draws must be at least 1 and fdr in (0, 1), got {draws} and {fdr}")
        self.draws, self.seed, self.fdr = draws, seed, fdr
        self._found: Novelty | None = None

    def finish(self, pass_: Pass) -> None:
        """Find the novel latents and log; do nothing without labels."""
        if (concepts := pass_.get(ConceptLabels)) is None:
            return
        top_ids, embeddings = pass_.top_ids, pass_.data.judge_embeddings
        named = torch.tensor(concepts.named, dtype=torch.bool, device=top_ids.device)
        self._found = find_novel(top_ids, embeddings, named, partial(self._null, pass_.data), self.fdr)
        novel, known = self._found.novel.float(), top_ids[:, 0] >= 0
        groups = self._found.group.max().float() + 1
        logged = {"novel": novel.sum(), "novel_groups": groups}
        if known.any():
            logged["novel_share"] = novel[known].mean()
        pass_.module.log_dict({f"concepts/{key}": value for key, value in logged.items()})

    def _null(self, data: ActivationDataModule, n: int) -> Tensor:
        """Return the clarity of random sets of `n` images."""
        sets = {"n": n, "draws": self.draws, "seed": self.seed}
        draw = partial(clarity_null, data.judge_embeddings, **sets)
        return cached_tensor(data.judge_folder / "nulls", "clarity", sets, draw)

    def latent_columns(self) -> dict[str, Sequence[object]]:
        """Return its columns of `latents.csv`; none before the first validation pass."""
        if self._found is None:
            return {}
        names = {"p": "clarity_p", "group": "novel_group"}
        return {names.get(key, key): column.tolist() for key, column in self._found._asdict().items()}
