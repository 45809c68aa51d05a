"""The data that parts of the library exchange: sparse latents, batches, validation output."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor


@dataclass(frozen=True, repr=False)
class SparseLatents:
    """The latents of `n` tokens in compressed rows; absent values are zero.

    A TopK autoencoder gives a plain view of its `[n, k]` selection; entries that its ReLU set to zero stay in
    place and count as inactive everywhere (L0, density, top images).

    Attributes:
        values: `[nnz]`, activations >= 0.
        indices: `[nnz]` int64, the latent of each value, in `0..d_sae-1`, at most once per row.
        offsets: `[n + 1]` int64; row `i` is `values[offsets[i]:offsets[i + 1]]`.
        d_sae: number of latents of the autoencoder.

    Example:
        >>> z = SparseLatents.from_dense(torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 3.0]]))
        >>> z.indices.tolist(), z.offsets.tolist()
        ([1, 0, 2], [0, 1, 3])
        >>> z.to_dense()[1].tolist()
        [1.0, 0.0, 3.0]
        >>> z
        SparseLatents(2 rows, 3 latents, 1.5 active per row, largest 3, cpu)
    """

    values: Tensor
    indices: Tensor
    offsets: Tensor
    d_sae: int

    def __repr__(self) -> str:
        active = int((self.values > 0).sum()) / max(1, len(self))
        largest = float(self.values.detach().max()) if len(self.values) else 0.0
        known = f"{active:.1f} active per row, largest {largest:.3g}, {self.values.device}"
        return f"{type(self).__name__}({len(self)} rows, {self.d_sae} latents, {known})"

    @classmethod
    def from_topk(cls, values: Tensor, indices: Tensor, d_sae: int) -> Self:
        """View a `[n, k]` selection as compressed rows, without a copy."""
        n, k = values.shape
        offsets = torch.arange(0, n * k + 1, max(k, 1), device=values.device)[: n + 1]
        return cls(values.reshape(-1), indices.reshape(-1), offsets, d_sae)

    @classmethod
    def from_dense(cls, latents: Tensor) -> Self:
        """Compress dense latents `[n, d_sae]`; zeros are dropped."""
        rows, indices = latents.nonzero(as_tuple=True)
        offsets = torch.zeros(len(latents) + 1, dtype=torch.int64, device=latents.device)
        offsets[1:] = torch.bincount(rows, minlength=len(latents)).cumsum(0)
        return cls(latents[rows, indices], indices, offsets, latents.shape[1])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def rows(self) -> Tensor:
        """Return the row of each value, `[nnz]`."""
        rows = torch.arange(len(self), device=self.offsets.device)
        return rows.repeat_interleave(self.offsets.diff(), output_size=len(self.values))

    def to_dense(self) -> Tensor:
        """Return the dense latents `[n, d_sae]`: for tests and small data only."""
        dense = self.values.new_zeros(len(self), self.d_sae)
        dense[self.rows(), self.indices] = self.values
        return dense

    def fired(self) -> Tensor:
        """Return `[d_sae]` bool, the latents that are active on some row."""
        fired = torch.zeros(self.d_sae + 1, dtype=torch.bool, device=self.indices.device)
        active = torch.where(self.values > 0, self.indices, self.d_sae)  # the last place is for the rest
        return fired.index_fill_(0, active, True)[:-1]

    def slice(self, start: int, stop: int) -> Self:
        """Return the rows `start:stop` as views."""
        first, last = int(self.offsets[start]), int(self.offsets[stop])
        offsets = self.offsets[start : stop + 1] - first
        return type(self)(self.values[first:last], self.indices[first:last], offsets, self.d_sae)

    def keep(self, mask: Tensor) -> Self:
        """Return the rows where `mask` `[n]` is true, copied."""
        counts = self.offsets.diff()
        entries = mask.repeat_interleave(counts, output_size=len(self.values))
        offsets = torch.cat([self.offsets[:1] - self.offsets[0], counts[mask].cumsum(0)])
        return type(self)(self.values[entries], self.indices[entries], offsets, self.d_sae)

    def columns(self, latents: Tensor) -> Self:
        """Return the given latents alone, `[m]` int64, each once.

        All rows stay, and the latents are numbered by their place in `latents`.

        Example:
            >>> z = SparseLatents.from_dense(torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 3.0]]))
            >>> z.columns(torch.tensor([2, 1])).to_dense().tolist()
            [[0.0, 2.0], [3.0, 0.0]]
        """
        place = torch.full((self.d_sae,), -1, device=self.indices.device)
        place[latents.to(place.device)] = torch.arange(len(latents), device=place.device)
        indices = place[self.indices]
        mine = indices >= 0
        counts = torch.bincount(self.rows()[mine], minlength=len(self))
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return type(self)(self.values[mine], indices[mine], offsets, len(latents))

    def sum_tokens(self, t: int) -> Self:
        """Return the sums of the `t` tokens of each image: `n * t` rows -> `n` rows.

        Example:
            >>> tokens = SparseLatents.from_dense(torch.tensor([[1.0, 2.0], [0.0, -5.0]]))
            >>> tokens.sum_tokens(t=2).to_dense()
            tensor([[ 1., -3.]])
        """
        if t == 1:
            return self
        n, d_sae = len(self) // t, self.d_sae
        keys, place = torch.unique(self.rows() // t * d_sae + self.indices, return_inverse=True)
        sums = self.values.new_zeros(len(keys)).index_add_(0, place, self.values)
        counts = torch.bincount(keys // d_sae, minlength=n)
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return type(self)(sums, keys % d_sae, offsets, d_sae)

    @classmethod
    def stack(cls, parts: Sequence[Self]) -> Self:
        """Return the rows of all parts, one after the other.

        Example:
            >>> part = SparseLatents.from_dense(torch.tensor([[0.0, 3.0]]))
            >>> SparseLatents.stack([part, part]).to_dense().tolist()
            [[0.0, 3.0], [0.0, 3.0]]
        """
        counts = torch.cat([part.offsets.diff() for part in parts])
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        values, indices = torch.cat([p.values for p in parts]), torch.cat([p.indices for p in parts])
        return cls(values, indices, offsets, parts[0].d_sae)

    def class_means(self, classes: Tensor, n_classes: int) -> Tensor:
        """Return the mean of each latent over the images of each class; a silent latent counts as zero.

        Args:
            classes: `[n]` int64, class of each row's image; -1 leaves the row out.
            n_classes: `C`.

        Returns:
            `[C, d_sae]` float32; NaN for a class without images.

        Example:
            >>> values = SparseLatents.from_dense(torch.tensor([[1.0, 0.0], [3.0, 2.0]]))
            >>> values.class_means(torch.tensor([1, 1]), n_classes=2)
            tensor([[nan, nan],
                    [2., 1.]])
        """
        of_value = classes[self.rows()]
        known = of_value >= 0
        sums = self.values.new_zeros(n_classes * self.d_sae, dtype=torch.float64)
        sums.index_add_(0, (of_value * self.d_sae + self.indices)[known], self.values[known].double())
        counts = torch.bincount(classes[classes >= 0], minlength=n_classes)
        return (sums.view(n_classes, -1) / counts[:, None]).float()

    def to(self, device: torch.device | str) -> Self:
        """Return the same latents on another device."""
        return type(self)(
            self.values.to(device), self.indices.to(device), self.offsets.to(device), self.d_sae
        )

    def with_values(self, values: Tensor) -> Self:
        """Return the same pattern with other values `[nnz]`."""
        return type(self)(values, self.indices, self.offsets, self.d_sae)


class Batch(NamedTuple):
    """Rows of the activation store.

    Attributes:
        x: `[n, d_in]` float32 activations, one row per token.
        image_ids: `[n]` int64, the image that each token comes from (its index in the split).
        targets: `[n]` int64, class of that image, -1 where unknown.
        embeddings: `[n, d_embed]` unit final image embeddings of the audited CLIP; `None` in training.
        earlier: activations of the same tokens at the earlier hook points of the run, `[n, d_in]` each.
    """

    x: Tensor
    image_ids: Tensor
    targets: Tensor
    embeddings: Tensor | None = None
    earlier: tuple[Tensor, ...] = ()


class ValidationOutput(NamedTuple):
    """The output of one validation step for every callback, in units of raw activations and in float32.

    Attributes:
        x: `[n, d_in]` activations.
        x_hat: `[n, d_in]` reconstructions.
        latents: sparse latents of the `n` tokens.
        image_ids: `[n]` int64.
        targets: `[n]` int64, -1 where unknown.
        embeddings: `[n, d_embed]` unit final image embeddings of the audited CLIP.
    """

    x: Tensor
    x_hat: Tensor
    latents: SparseLatents
    image_ids: Tensor
    targets: Tensor
    embeddings: Tensor
