"""Where a correction can hold latents: culprits at the run's hook point, their sources at earlier ones."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from lightning_sae.audit.findings import Finding
from lightning_sae.audit.origins.origin import CulpritSource, Origin
from lightning_sae.clip import HookPoint, short_names
from lightning_sae.concepts.naming import LatentName
from lightning_sae.correct.clamp import Clamp, Held
from lightning_sae.correct.corrected_classifier import HELD_WAYS, Way
from lightning_sae.runs.earlier import read_earlier
from lightning_sae.runs.folder import RunFolder
from lightning_sae.sae import SparseAutoencoder

MOST = (1, 3, 8)  # sources that are ablated together, the strongest


class Site(NamedTuple):
    """Latents that can be held, and where.

    Attributes:
        layer: short name of the hook point.
        hook_point: the hook point.
        sae: whose latents they are.
        latents: each once; the culprits, or the strongest of their sources.
        names: what they are called.
        early: whether it lies before the hook point of the run.
    """

    layer: str
    hook_point: HookPoint
    sae: SparseAutoencoder
    latents: tuple[int, ...]
    names: tuple[LatentName, ...]
    early: bool = False

    def hold(self, values: Sequence[float]) -> Held:
        """Return the latents held at values."""
        return Held(Clamp(self.latents, values), self.sae, self.hook_point)


def sites_of(run: RunFolder, finding: Finding, at: str | None = None) -> list[Site]:
    """Return the places at which a finding can be corrected, the run's own hook point first.

    At each earlier hook point the one, three and eight strongest sources of the culprits are a site each.

    Args:
        run: whose latents the culprits are.
        finding: of the audit.
        at: short name of the one hook point that is wanted.

    Raises:
        FileNotFoundError: an earlier autoencoder is no longer in its folder.
        ValueError: no such hook point, or that folder holds another autoencoder now.
    """
    culprits = finding.culprits
    modules = [run.data.hook.module, *(origin.hook_point for origin in finding.origins)]
    own, *_ = short_names(list(dict.fromkeys(modules)))
    names = tuple(LatentName(culprit.label, culprit.named) for culprit in culprits)
    sites = [Site(own, run.data.hook, run.sae, tuple(culprit.latent for culprit in culprits), names)]
    if at not in (None, own, *(origin.layer for origin in finding.origins)):
        known = ", ".join([own, *(origin.layer for origin in finding.origins)])
        raise ValueError(f"the finding has nothing to hold at {at!r}: take one of {known}")
    for origin in finding.origins:
        if at in (None, origin.layer):
            sites += _early(run, finding, origin)
    return [site for site in sites if at in (None, site.layer)]


def _early(run: RunFolder, finding: Finding, origin: Origin) -> list[Site]:
    earlier = read_earlier(run, origin.folder)
    hook, sae = earlier.layer.hook_point, earlier.layer.sae
    sources = ranked_sources(finding, origin)
    beyond = [source.latent for source in sources if not 0 <= source.latent < sae.d_sae]
    if hook != (origin.hook_point, origin.tokens) or earlier.sae_sha256 != origin.sae_sha256 or beyond:
        raise ValueError(
            f"the autoencoder in {origin.folder} is not the one that the audit traced the finding to, at "
            f"{origin.hook_point}: audit the run again, or bring that one back"
        )
    counts = dict.fromkeys(min(n, len(sources)) for n in MOST if sources)
    return [
        Site(
            origin.layer,
            hook,
            sae,
            tuple(source.latent for source in sources[:n]),
            tuple(LatentName(source.label, source.named) for source in sources[:n]),
            early=True,
        )
        for n in counts
    ]


def tries(ways: Sequence[Way], sites: Sequence[Site], at: str | None = None) -> list[tuple[Way, Site]]:
    """Return the ways with the sites that each can act at, in this order.

    Ways that change the class vector are tried once, whatever sites there are. Sources can only be ablated,
    as holding a source at another value would give it to tokens that lack it.

    Args:
        ways: to be tried.
        sites: of `sites_of`.
        at: the hook point that was asked for.

    Raises:
        ValueError: a way that cannot act there.
    """
    found = [
        (way, site)
        for way in ways
        for site in (sites if way in HELD_WAYS else sites[:1])
        if way == "ablate" or not site.early
    ]
    if not found or (at and not set(ways) <= set(HELD_WAYS)):
        raise ValueError(f"{', '.join(ways)} holds no latents at {at}: take --way ablate, or leave out --at")
    return found


def ranked_sources(finding: Finding, origin: Origin) -> list[CulpritSource]:
    """Return the sources of all culprits, each once, the strongest first.

    The strength of a source is a sum over the culprits: the share that a culprit has in what drives the
    class, times the share that the source has in what arrives at the culprit.
    """
    weight, known = defaultdict[int, float](float), dict[int, CulpritSource]()
    drives = {culprit.latent: culprit.share for culprit in finding.culprits}
    for culprit in origin.culprits:
        for source in culprit.sources:
            weight[source.latent] += drives.get(culprit.latent, 0.0) * source.share
            known[source.latent] = source
    return sorted(known.values(), key=lambda source: -weight[source.latent])
