"""The pairs of a run: where its configuration says that they come from."""

from omegaconf import DictConfig, OmegaConf

from lightning_sae.pairs.pair import PairSource
from lightning_sae.runs.folder import RunFolder
from lightning_sae.trust.targets import instantiate

KEY = "callbacks.pairs.sources"


def sources_of(run: RunFolder) -> dict[str, PairSource]:
    """Return name -> source of pairs, as the callback `pairs` of the run had them; none without it.

    Raises:
        ValueError: the configuration names what is not trusted, or what is no source of pairs.
    """
    found = OmegaConf.select(run.config, KEY)
    if not isinstance(found, DictConfig):
        return {}
    built = instantiate(found, run.trusted)
    for name, source in built.items():
        if source is not None and not isinstance(source, PairSource):
            raise ValueError(f"{KEY}.{name} in the configuration is no source of pairs, but {source!r:.100}")
    return {name: source for name, source in built.items() if source is not None}
