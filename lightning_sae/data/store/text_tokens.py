"""Tokens of texts without the padding: rows of a store that count, and the text that each belongs to."""

import torch
from torch import Tensor

from lightning_sae.clip import Clip
from lightning_sae.clip.token_rules import pooled_positions
from lightning_sae.data.store.activations import ActivationStore
from lightning_sae.metrics.moments import Moments

CHUNK = 16384  # rows copied at a time


def real_tokens(clip: Clip, ids: Tensor, n_tokens: int) -> Tensor:
    """Return the tokens of texts up to the one that the tower pools.

    What stands behind the pooled token has no say in the embedding. Where the pooled token is the last of all
    (SigLIP, CoCa), padding before it is left out only where the tower masks it, as CoCa does.

    Args:
        clip: the model, with a text tower of open_clip's own.
        ids: `[n, context]` token ids.
        n_tokens: at the hook point, one more than `context` with an appended class token.

    Returns:
        `[n, n_tokens]` bool, at least one of each text.
    """
    place = torch.arange(n_tokens)
    pooled = pooled_positions(clip, ids, n_tokens)[:, None]
    if getattr(clip.text, "cls_emb", None) is None:
        return place <= pooled
    written = torch.zeros(len(ids), n_tokens, dtype=torch.bool)
    written[:, : ids.shape[1]] = ids != clip.text.pad_id
    return written | (place == pooled)


class RealTokenStore(ActivationStore):
    """A store of texts' tokens without the padding, held in memory.

    Args:
        whole: the store with all tokens.
        real: `[n, tokens]` bool, those that are kept.
    """

    def __init__(self, whole: ActivationStore, real: Tensor) -> None:
        self.folder, self.layout = whole.folder, whole.layout
        kept = real.flatten().nonzero().flatten()
        self.x = _kept(whole, kept)
        self._shards = []
        self._owners = (kept // real.shape[1]).to(self.x.device)
        self._firsts = torch.cat([torch.zeros(1, dtype=torch.int64), real.sum(1).cumsum(0)]).tolist()
        self.statistics = Moments.of(self.x).statistics()

    def __len__(self) -> int:
        return len(self._owners)

    def owners(self, rows: Tensor) -> Tensor:
        """Return the text that each row is a token of."""
        return self._owners[rows.to(self._owners.device)].to(rows.device)

    def first_row(self, example: int) -> int:
        """Return where a text starts."""
        return int(self._firsts[example])


def _kept(whole: ActivationStore, rows: Tensor) -> Tensor:
    """Return some rows, ascending; of a memory-mapped store a piece at a time."""
    pieces = torch.split(rows, CHUNK)
    return torch.cat([whole.rows(int(p[0]), int(p[-1]) + 1)[(p - p[0]).to(whole.device)] for p in pieces])
