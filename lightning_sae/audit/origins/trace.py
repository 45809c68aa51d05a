"""From the culprits of a finding back to the latents of an earlier hook point that make them."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from lightning_sae.attribution.edges.layers import Layer, check_layers
from lightning_sae.audit.examination import Examined
from lightning_sae.audit.findings import Culprit
from lightning_sae.audit.origins.arriving import Arriving, arriving
from lightning_sae.audit.origins.origin import CulpritOrigin, CulpritSource, Origin, SharedSources
from lightning_sae.audit.origins.sharing import POOL, compare
from lightning_sae.audit.origins.words import summarise_origin
from lightning_sae.audit.untold import main_drivers
from lightning_sae.clip import short_names
from lightning_sae.concepts.naming import LatentName
from lightning_sae.runs.earlier import EarlierLayer, earlier_layers
from lightning_sae.runs.folder import RunFolder
from lightning_sae.runs.image_latents import choose_images
from lightning_sae.runs.layer_names import layer_names

IMAGES = 256  # of a finding
SOURCES = 5  # of a culprit
OWN = 5  # latents of the class itself, those that drive it most
LEAST = 20  # random latents, for a test at the level 0.05


def checked_layers(run: RunFolder, folders: Sequence[Path] = ()) -> Mapping[str, EarlierLayer]:
    """Return the earlier hook points that culprits can be traced back to, by short names.

    Args:
        run: `ready`.
        folders: of other runs of its CLIP.

    Raises:
        FileNotFoundError: as `earlier_layers`.
        ValueError: as `earlier_layers`; or a hook point does not come before that of the run.
    """
    found = earlier_layers(run, folders)
    for each in found.values():
        check_layers(run.data.clip, [each.layer, Layer(run.data.hook, run.sae)])
    return found


class LayerTrace:
    """The way back from the culprits of an audit to one earlier hook point.

    Args:
        run: `ready`.
        found: by the audit.
        name: short, of the hook point.
        earlier: the hook point with its autoencoder.
    """

    def __init__(self, run: RunFolder, found: Examined, name: str, earlier: EarlierLayer) -> None:
        self.run, self.found, self.name, self.earlier = run, found, name, earlier

    @cached_property
    def names(self) -> list[LatentName]:
        """The names of the latents of the earlier hook point."""
        return layer_names(self.run, self.name, self.earlier.layer)

    def origin(self, c: int, culprits: Sequence[Culprit], images: Tensor) -> Origin:
        """Return where culprits come from.

        Args:
            c: the class that they lead astray.
            culprits: the worst first.
            images: `[n]` int64, ids of the validation images of the finding.
        """
        ids = images[choose_images(len(images), IMAGES)]
        latents = [culprit.latent for culprit in culprits]
        found = arriving(self.run, self.earlier.layer, ids, latents)
        traced = tuple(self._traced(j, found[j]) for j in latents if j in found)
        shared = self._shared(c, latents)
        hook = self.earlier.layer.hook_point
        _, own = short_names([hook.module, self.run.data.hook.module])
        return Origin(
            layer=self.name,
            hook_point=hook.module,
            tokens=hook.tokens,
            folder=self.earlier.folder,
            sae_sha256=self.earlier.sae_sha256,
            culprits=traced,
            shared=shared,
            summary=summarise_origin(self.name, own, culprits, traced, shared),
        )

    def _traced(self, latent: int, found: Arriving) -> CulpritOrigin:
        strongest = found.latents.topk(min(SOURCES, len(found.latents)))
        error, bias, outside = (found.beside.abs() / found.total).tolist()
        sources = [
            CulpritSource(
                latent=i,
                label=self.names[i].label,
                named=self.names[i].named,
                share=weight / found.total,
            )
            for weight, i in zip(strongest.values.tolist(), strongest.indices.tolist(), strict=True)
            if weight > 0
        ]
        return CulpritOrigin(
            latent=latent,
            images=found.images,
            sources=tuple(sources),
            latents=float(found.latents.abs().sum()) / found.total,
            error=error,
            outside=outside,
            bias=bias,
        )

    def _shared(self, c: int, culprits: Sequence[int]) -> SharedSources | None:
        """Return whether the worst culprit and the class's own latents have the same sources."""
        own = [j for j in self._own(c) if j not in culprits]
        mine = self._profile(culprits[0])
        if not own or mine is None or len(self._random) < LEAST:
            return None
        profiles = [profile for j in own if (profile := self._profile(j)) is not None]
        others = [profile for j, profile in self._random.items() if j not in (*own, *culprits)]
        if not profiles or len(others) < LEAST:
            return None
        found = compare(mine, torch.stack(profiles), torch.stack(others))
        return SharedSources(
            own=tuple(own), overlap=found.value, random=found.random, high=found.high, p_value=found.p_value
        )

    def _own(self, c: int) -> list[int]:
        """Return the latents that drive a class on its own images, the strongest first."""
        seen, subjects = self.found.seen, self.found.subjects
        right = (seen.predicted == c) & subjects.show(c).to(seen.predicted.device)
        attribution = seen.attributions.class_means(torch.where(right[seen.attributed], 0, -1), 1)[0]
        return main_drivers(attribution.nan_to_num().cpu())[:OWN].tolist()

    @cached_property
    def _random(self) -> dict[int, Tensor]:
        """The profiles of random latents that have as many top images as any."""
        top_ids = self.found.judged.top_ids
        alive = (top_ids >= 0).all(1).nonzero().flatten()
        drawn = alive[choose_images(len(alive), POOL)].tolist()
        return {j: profile for j in drawn if (profile := self._profile(j)) is not None}

    def _profile(self, latent: int) -> Tensor | None:
        """Return the shares of the sources of a latent on its top images; `None` where it has none."""
        ids = self.found.judged.top_ids[latent]
        found = arriving(self.run, self.earlier.layer, ids[ids >= 0], [latent])
        return found[latent].profile if latent in found else None
