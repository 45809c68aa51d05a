"""The closed form of what CLIP does after the last block: all active latents pushed forward at once."""

from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.func import jvp

from lightning_sae.attribution.explained import Explained
from lightning_sae.attribution.gradient import TailFunction
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.clip import Tail
from lightning_sae.sae.kernels.pattern import Pattern
from lightning_sae.sae.kernels.products import dot
from lightning_sae.types import SparseLatents


class Pushed(NamedTuple):
    """Active latents behind the tail: `a_j J w_j = size (z_j - along q - length e)` of an entry's image.

    Attributes:
        size: `[nnz]`, `a_j / (sigma nu)`.
        along: `[nnz]`, the part of `w_j` that the layer norm's scale takes away.
        length: `[nnz]`, the part that the unit length takes away.
        q: `[n, d_embed]`, the normalised activation behind the linear part, without bias.
        e: `[n, d_embed]`, the unit embedding.
    """

    size: Tensor
    along: Tensor
    length: Tensor
    q: Tensor
    e: Tensor


class Parts(NamedTuple):
    """Images as the sum of what can be removed from them and the rest, before and behind the linear part.

    Without the share `s_j` of latent `j`, and with `c = (1, -s_1 .. -s_m)`, the scale of the layer norm is
    `r = ||sum c_i inputs_i||` times what it was, and the embedding has the direction of
    `u = sum_i c_i / r outputs_i + outputs_last`.

    Attributes:
        inputs: `[n, m + 1, d_in + 1]`: the activation, then each latent's part, divided by the scale. Their
            last coordinate is what the epsilon of the layer norm adds.
        outputs: `[n, m + 2, d_embed]`, the same behind the linear part, then the bias; `||u|| = 1` where
            nothing is removed.
    """

    inputs: Tensor
    outputs: Tensor


class LastLayer:
    """The closed form of what follows the last block's class token, or of the unit length alone.

    `e = (q + b) / nu`, `q = Q^T (x - mean(x)) / sigma`, with `Q = diag(gamma) P` of the layer norm and the
    projection, `sigma` the layer norm's scale and `nu = ||q + b||`. The derivative along a decoder row is

    `J w_j = (I - e e^T) (z_j - r_ij q) / (sigma nu)`, `z_j = Q^T (w_j - mean(w_j))`,
    `r_ij = <w_j, x - mean(x)> / (sigma d_in)`,

    so the decoder goes through the linear part once, for all images.

    Attributes:
        z: `[d_sae, d_embed]`, the decoder behind the linear part.

    Args:
        tail: one that `of` knows.
        W_dec: `[d_sae, d_in]`, decoder in the units of the raw activations.
    """

    def __init__(self, tail: Tail, W_dec: Tensor) -> None:
        self.W_dec, self._bias = W_dec.detach(), W_dec.new_zeros(())
        assert tail.linear is not None
        self._norm, weight, bias = tail.linear
        self._linear: Tensor | None = None
        if self._norm is not None:
            gamma, beta = (part.detach().to(W_dec) for part in (self._norm.weight, self._norm.bias))
            weight = torch.eye(len(gamma)).to(W_dec) if weight is None else weight.detach().to(W_dec)
            self._linear, self._bias = gamma[:, None] * weight, beta @ weight
            if bias is not None:
                self._bias = self._bias + bias.detach().to(W_dec)
        with torch.no_grad():
            self.z = self._map(self.W_dec)

    @classmethod
    def of(cls, tail: TailFunction, W_dec: Tensor) -> Self | None:
        """Return the closed form of a tail, or `None` where it has none."""
        return cls(tail, W_dec) if isinstance(tail, Tail) and tail.linear is not None else None

    def _map(self, rows: Tensor) -> Tensor:
        """Return the linear part, `[m, d_in]` -> `[m, d_embed]`."""
        return rows if self._linear is None else (rows - rows.mean(1, keepdim=True)) @ self._linear

    @torch.no_grad()
    def push(self, explained: Explained) -> Pushed:
        """Push all active latents forward, without their `[nnz, d_embed]` directions."""
        latents, x = explained.latents, explained.x[:, 0].to(self.z)
        pattern = Pattern.of(latents)
        sigma, r = torch.ones_like(x[:, 0]), torch.zeros_like(latents.values)
        if self._norm is not None:
            sigma = (x.var(1, correction=0) + self._norm.eps).sqrt()
            x = (x - x.mean(1, keepdim=True)) / sigma[:, None]
            r = dot(x, self.W_dec, pattern) / x.shape[1]
        q = self._map(x)
        nu = (q + self._bias).norm(dim=1)
        e = (q + self._bias) / nu[:, None]
        size = latents.values / (sigma * nu)[pattern.rows]
        length = dot(e, self.z, pattern) - r * (q * e).sum(1)[pattern.rows]
        return Pushed(size, r, length, q, e)

    @torch.no_grad()
    def attribute(self, explained: Explained, scores: ClassScores) -> Tensor:
        """Return what `attribute_classes` gives, `[nnz, C]`."""
        pushed, image = self.push(explained), explained.latents.rows()
        v = self.z[explained.latents.indices]
        v -= pushed.along[:, None] * pushed.q[image] + pushed.length[:, None] * pushed.e[image]
        v *= pushed.size[:, None]
        values = v @ scores.weight.T
        if scores.linear:
            return values
        if not scores.closed_form:
            logits = scores.logits(pushed.e)[image]
            pushed_scores: Tensor = jvp(scores.output.scores, (logits,), (values,))[1]
            return pushed_scores
        slopes = scores.slopes(pushed.e)
        values = slopes.factor[image] * (values - (v * slopes.centre[image]).sum(1, keepdim=True))
        best = (v * slopes.best_slope[image]).sum(1, keepdim=True)
        return values.scatter(1, slopes.best[image][:, None], best)

    @torch.no_grad()
    def parts(self, x: Tensor, latents: Tensor, activations: Tensor) -> Parts:
        """Return images in parts, of which any share of any latent can be removed exactly.

        Args:
            x: `[n, d_in]` activations.
            latents: `[n, m]` int64, the latents that can be removed.
            activations: `[n, m]`; 0 where there are fewer.
        """
        parts = torch.cat([x.to(self.z)[:, None], activations[..., None] * self.W_dec[latents]], 1)
        outputs = torch.cat([self._map(x.to(self.z))[:, None], activations[..., None] * self.z[latents]], 1)
        inputs, epsilon = torch.zeros_like(parts), torch.ones_like(parts[:, 0, 0])
        if self._norm is not None:
            centred = parts - parts.mean(2, keepdim=True)
            variance = centred[:, 0].square().mean(1) + self._norm.eps
            inputs = centred / (variance * x.shape[1]).sqrt()[:, None, None]
            outputs, epsilon = outputs / variance.sqrt()[:, None, None], self._norm.eps / variance
        outputs = torch.cat([outputs, self._bias.expand_as(outputs[:, :1])], 1)
        outputs = outputs / (outputs[:, 0] + outputs[:, -1]).norm(dim=1)[:, None, None]
        extra = torch.zeros_like(inputs[..., :1])
        extra[:, 0, 0] = epsilon.sqrt()
        return Parts(torch.cat([inputs, extra], 2), outputs)

    @torch.no_grad()
    def along(self, pushed: Pushed, latents: SparseLatents, directions: Tensor) -> Tensor:
        """Return `[nnz]`: the product of each pushed latent with its image's row of `[n, d_embed]`."""
        pattern = Pattern.of(latents)
        q, e = ((part * directions).sum(1)[pattern.rows] for part in (pushed.q, pushed.e))
        return pushed.size * (dot(directions, self.z, pattern) - pushed.along * q - pushed.length * e)
