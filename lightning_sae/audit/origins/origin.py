"""What an audit records of the sources of culprits at earlier hook points."""

from lightning_sae.audit.estimate import AuditRecord


class CulpritSource(AuditRecord):
    """A latent of an earlier hook point that makes a culprit active.

    Attributes:
        latent: its number there.
        label: what the judge calls it; "" without a label.
        named: whether the label is to be relied on.
        share: of the magnitudes that arrive at the culprit, in (0, 1].
    """

    latent: int
    label: str
    named: bool
    share: float


class CulpritOrigin(AuditRecord):
    """The sources of a culprit at one earlier hook point: shares of the magnitudes that arrive at it.

    Attributes:
        latent: the culprit.
        images: number of images of the finding on which it is active; the edges are means over these.
        sources: latents that make it active, the largest share first; those that hold it down are left out.
        latents: share of all latents of the hook point together, of either sign.
        error: share of what the autoencoder there does not reconstruct: a leak.
        outside: share of tokens that the hook point does not select: a leak.
        bias: share of the autoencoder's constant.
    """

    latent: int
    images: int
    sources: tuple[CulpritSource, ...]
    latents: float
    error: float
    outside: float
    bias: float

    @property
    def leak(self) -> float:
        """The share that no latent there explains."""
        return self.error + self.outside


class SharedSources(AuditRecord):
    """The overlap of the sources of the worst culprit with those of the class's own latents.

    Attributes:
        own: latents that drive the class on its own images, no culprits.
        overlap: mean over these latents of `sum_i min(p_i, q_i)`, where `p` and `q` are the sources' shares
            in the influence on the culprit and on the latent; in 0..1.
        random: mean overlap of the culprit with as many random latents.
        high: overlap that one in twenty of such sets exceeds.
        p_value: chance of an overlap at least as large, in (0, 1].
    """

    own: tuple[int, ...]
    overlap: float
    random: float
    high: float
    p_value: float


class Origin(AuditRecord):
    """The sources of the culprits of a finding at one earlier hook point.

    Attributes:
        layer: short name of the hook point.
        hook_point: module path.
        tokens: token rule.
        folder: folder that holds its `sae/`; relative to the run folder if it lies inside of that.
        sae_sha256: digest of the autoencoder's weights.
        culprits: culprits of the finding that are active on its images, the worst first.
        shared: sources that the worst culprit shares with the class's own latents; `None` where no other
            latents drive the class, or too few latents are there to compare.
        summary: in words.
    """

    layer: str
    hook_point: str
    tokens: str
    folder: str
    sae_sha256: str
    culprits: tuple[CulpritOrigin, ...]
    shared: SharedSources | None
    summary: str
