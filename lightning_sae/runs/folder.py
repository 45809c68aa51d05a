"""The folder of a run: its settings, tables and values, and on demand its data and autoencoder."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from lightning_sae.clip import HookPoint, identity_titles, short_names
from lightning_sae.concepts.own_names import FILE as OWN_NAMES
from lightning_sae.concepts.own_names import read_names, with_own_names
from lightning_sae.concepts.vocabulary import Vocabulary
from lightning_sae.devices.device import find_device
from lightning_sae.files import user_path
from lightning_sae.mappings import flatten
from lightning_sae.report import render_cell
from lightning_sae.runs.latent import Latent
from lightning_sae.runs.layers import RunLayer, layer_folder
from lightning_sae.sae import SparseAutoencoder, load_sae
from lightning_sae.sae.saving.folder import CONFIG as SAE_CONFIG
from lightning_sae.sae.saving.folder import WEIGHTS as SAE_WEIGHTS
from lightning_sae.tracking.values import VALUES
from lightning_sae.training.settings import CONFIG
from lightning_sae.trust.documents import NO_CONFIG, read_config, read_json, read_yaml_list
from lightning_sae.trust.tables import read_table
from lightning_sae.trust.targets import import_trusted, instantiate_as

if TYPE_CHECKING:
    from lightning_sae.data import ActivationDataModule

CHOICES = "hydra.runtime.choices."
_TEXTS = (
    *("label", "parent_label", "second_label", "class", "attribution_class", "unexpected_class", "value"),
    *("top_images", "name", "vocabulary_label", "evidence", "sae"),
)
"""Columns of texts, in whatever table: a class may be called "7"."""

SHOWN = 8  # examples of a latent
T = TypeVar("T")


class RunFolder:
    """The folder of a run: each part is read when it is first asked for, and empty where its file is missing.

    Args:
        folder: as `train.py` wrote it.
        moved: overrides of the configuration, as `data.store_dir=DIR`.
        device: where CLIP, judge, autoencoder and all that is read by them lie; `None` is the GPU where there
            is one, else the CPU.
        trusted: packages that the configuration may name beside what is ours; `None` for a run of this
            process.

    Attributes:
        folder: where it lies.
        trusted: packages that the configuration may name beside what is ours.

    Raises:
        ValueError: (by each part) its file is damaged; names it.
    """

    def __init__(
        self,
        folder: str | Path,
        moved: Sequence[str] = (),
        device: torch.device | None = None,
        trusted: Sequence[str] | None = (),
    ) -> None:
        self.folder = user_path(folder)
        self._moved, self._device, self.trusted = moved, device, trusted
        self._tables: dict[str, pd.DataFrame] = {}

    def _read(self, name: str, read: Callable[[Path], T], empty: T) -> T:
        path = self.folder / name
        return read(path) if path.is_file() else empty

    @cached_property
    def config(self) -> DictConfig:
        """The configuration as the run was composed, with what has moved."""
        return _overridden(self._read(str(CONFIG), read_config, OmegaConf.create()), self._moved)

    @cached_property
    def choices(self) -> dict[str, str]:
        """The file that was chosen of each group; the groups of Hydra itself left out."""
        hydra = self._read(str(CONFIG.with_name("hydra.yaml")), read_config, OmegaConf.create())
        chosen = {key: str(name) for key, name in flat(hydra).items() if name is not None}
        groups = {key: key.removeprefix(CHOICES) for key in chosen if key.startswith(CHOICES)}
        return {group: chosen[key] for key, group in groups.items() if not group.startswith("hydra/")}

    @cached_property
    def overrides(self) -> list[str]:
        """The words of its command line."""
        words: list[Any] = self._read(str(CONFIG.with_name("overrides.yaml")), read_yaml_list, [])
        return [str(word) for word in words]

    def table(self, name: str) -> pd.DataFrame:
        """Return `NAME.csv` with people's names; without rows and columns where the run has none."""
        if name not in self._tables:
            found = self._read(f"{name}.csv", _read_csv, pd.DataFrame())
            self._tables[name] = with_own_names(found, self.own_names)
        return self._tables[name]

    @cached_property
    def own_names(self) -> dict[int, str]:
        """`names.csv`, what people call its latents: latent -> name, in the place of labels everywhere."""

        def read(path: Path) -> dict[int, str]:
            return read_names(path, self.sae_sha256)

        return self._read(OWN_NAMES, read, {})

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The last value of each key in `metrics.csv`."""
        columns = {str(key): column for key, column in self.table("metrics").items()}
        known = {key: pd.to_numeric(column, errors="coerce").dropna() for key, column in columns.items()}
        return {key: float(column.iloc[-1]) for key, column in known.items() if len(column)}

    @cached_property
    def card(self) -> dict[str, Any]:
        """`sae/cfg.json`, what the autoencoder says of itself."""
        return self._read(f"sae/{SAE_CONFIG}", read_json, {})

    @cached_property
    def latents(self) -> pd.DataFrame:
        """`latents.csv`, by latent, with people's names."""
        return with_own_names(_read_latents(self.folder / "latents.csv"), self.own_names)

    @cached_property
    def data(self) -> "ActivationDataModule":
        """Images, CLIP and judge on one device; nothing is captured, `setup` is not called."""
        from lightning_sae.data import ActivationDataModule  # and Lightning, slowly

        data = instantiate_as(ActivationDataModule, self.config, "data", self.trusted)
        return data.to(self._device or find_device())

    @cached_property
    def sae(self) -> SparseAutoencoder:
        """The saved autoencoder, checked against the CLIP, on the same device; in evaluation mode."""
        return self._load_sae()

    @cached_property
    def layers(self) -> dict[str, RunLayer]:
        """The hook points of the run with their autoencoders, by short names, from the first to its own.

        Raises:
            FileNotFoundError: an autoencoder is missing.
        """
        *earlier, own = short_names(self.data.modules)
        layers = {}
        for name in earlier:
            table = layer_folder(Path(), name) / "latents.csv"
            latents = self._read(str(table), _read_latents, pd.DataFrame())
            layers[name] = RunLayer(self.data.earlier[name].hook, self._load_sae(name), latents)
        return layers | {own: RunLayer(self.data.hook, self.sae, self.latents)}

    def _load_sae(self, name: str = "") -> SparseAutoencoder:
        import_trusted(self.config, "sae", self.trusted)  # a variant is known once it is imported
        folder = layer_folder(self.folder, name) / "sae"
        return load_sae(folder, self.data.clip.identity()).to(self.data.clip.device)

    @cached_property
    def sae_sha256(self) -> str:
        """The digest of the saved autoencoder's weights; "" without."""
        return self._read(f"sae/{SAE_WEIGHTS}", lambda path: sha256(path.read_bytes()).hexdigest(), "")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        card, said = self.card, []
        if card:
            made = card["provenance"]
            said = [
                *identity_titles([made["clip"]]),
                str(HookPoint(made["hook_point"], made["tokens"])),
                f"{card['variant']} with {card['d_sae']} latents",
            ]
        known = {key: value for key, value in VALUES.items() if key in self.metrics and value.title}
        values = [(value.title, format(self.metrics[key], value.form)) for key, value in known.items()]
        tables = sorted(path.stem for path in self.folder.glob("*.csv"))
        context = {"name": self.folder.name, "facts": said, "values": values, "tables": tables}
        n_latents = len(self.table("latents"))
        return render_cell(__package__, "run.html.jinja", {**context, "n_latents": n_latents})

    def vocabulary(self) -> Vocabulary:
        """Return the words that latents are labelled with."""
        return instantiate_as(Vocabulary, self.config, "labels", self.trusted)

    def top_images(self, latent: int) -> list[int]:
        """Return ids of the latent's top validation images, the largest activation first; none if silent."""
        if latent not in self.latents.index:
            return []
        return [int(i) for i in str(self.latents.loc[latent, "top_images"]).split()]

    def latent(self, number: int) -> Latent:
        """Return a latent with its top validation examples.

        Raises:
            ValueError: the autoencoder has none of that number.
        """
        if not 0 <= number < self.sae.d_sae:
            raise ValueError(f"a latent is one of 0..{self.sae.d_sae - 1}, got {number}")
        known = number in self.latents.index
        row = self.latents.loc[[number]].iloc[0] if known else pd.Series(name=number, dtype=object)
        images = self.data.images("val")
        return Latent(number, row, [images[i] for i in self.top_images(number)[:SHOWN]])

    def judge_embeddings(self) -> Tensor:
        """Return `[n_val_images, d_judge]` unit, from the store.

        Raises:
            FileNotFoundError: the store is not where the run had it.
        """
        from lightning_sae.data.store.shards import read_tensor

        folder = self.data.judge_folder / "images"
        if not folder.is_dir():
            raise FileNotFoundError(
                f"the store of the run is not at {folder}: if it was moved, say where to by "
                "data.store_dir=DIR; if it was deleted, `lightning-sae capture` fills it again"
            )
        return read_tensor(folder, "embeddings")


def open_run(
    folder: str | Path,
    overrides: Sequence[str] = (),
    device: torch.device | None = None,
    trusted: Sequence[str] | None = (),
    data: "ActivationDataModule | None" = None,
) -> RunFolder:
    """Read the folder of a finished run, without running untrusted code that its configuration names.

    Args:
        folder: as `train.py` wrote it.
        overrides: what has moved since, as `data.store_dir=DIR`.
        device: where CLIP, judge, autoencoder and all that is read by them lie; `None` is the GPU where there
            is one, else the CPU.
        trusted: packages that the configuration may name all the same; `None` for a run of this process.
        data: images and CLIP of a run that was given them as an object; `None`: as the configuration says.

    Raises:
        FileNotFoundError: the folder is not that of a run, or lacks the autoencoder or the table.
        ValueError: the configuration names what is not trusted, the autoencoder was made for another CLIP
            than it gives, or an override names nothing in it.
    """
    folder = user_path(folder)
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(
            f"{folder} is no run folder, {CONFIG} is missing: name the folder that train.py wrote"
        )
    writers = {"sae": "callbacks.save_sae, when training ends,", "latents.csv": "callbacks.latent_table"}
    for name, writer in writers.items():
        if not ((folder / name).is_file() or (folder / name / SAE_CONFIG).is_file()):
            raise FileNotFoundError(
                f"{folder} has no {name}: {writer} writes it; let the run come to its end"
            )
    run = RunFolder(folder, overrides, device, trusted)
    if data is not None:
        run.data = data.to(device or find_device())
    _ = run.sae, run.latents  # what does not fit is said here
    return run


def _overridden(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or key.split(".")[0] not in config:
            raise ValueError(f"an override is KEY=VALUE, as data.store_dir=DIR; got {override!r}")
    try:
        merged = OmegaConf.merge(config, OmegaConf.from_dotlist(list(overrides)))
    except NO_CONFIG as error:
        raise ValueError(f"the overrides {' '.join(overrides)} have a value that is none: {error}") from error
    assert isinstance(merged, DictConfig)
    return merged


def flat(config: DictConfig) -> dict[str, Any]:
    """Return a configuration with its keys joined by dots, interpolations as they stand."""
    nested: Any = OmegaConf.to_container(config)
    return flatten(nested)


def _read_latents(path: Path) -> pd.DataFrame:
    return _read_csv(path, ["latent", "density", "top_images"], {"latent": int}).set_index("latent")


def _read_csv(
    path: Path, needed: Sequence[str] = (), kinds: Mapping[str, type] = MappingProxyType({})
) -> pd.DataFrame:
    dtype = {**dict.fromkeys(_TEXTS, str), **kinds}
    table = read_table(path, needed, keep_default_na=False, na_values=[""], dtype=dtype)
    texts = {column: table[column].astype(object).fillna("") for column in _TEXTS if column in table}
    return table.assign(**texts)
