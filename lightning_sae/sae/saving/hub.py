"""Saving to and loading from a folder or the Hugging Face Hub, with this library's own file names."""

from pathlib import Path
from typing import Any, Self, TypeVar

from huggingface_hub import ModelCard, ModelHubMixin, hf_hub_download

from lightning_sae.files import user_path
from lightning_sae.sae.saving.card import model_card

S = TypeVar("S", bound="HubMixin")


class HubMixin(ModelHubMixin):
    """`save_pretrained`, `push_to_hub` and `from_pretrained` of an autoencoder.

    A folder or a repository holds what `save_sae` writes: `sae.safetensors`, `cfg.json`, and a model card.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Return an instance for which the Hub's mixin writes no configuration of its own."""
        instance = super().__new__(cls, *args, **kwargs)
        instance._hub_mixin_config = None
        return instance

    @classmethod
    def from_pretrained(cls: type[S], pretrained_model_name_or_path: str | Path, **options: Any) -> S:
        """Read an autoencoder from a local folder, offline, or from the Hub.

        Args:
            pretrained_model_name_or_path: folder, or `USER/NAME` on the Hub.
            options: of `huggingface_hub.hf_hub_download`: `revision`, `token`, `cache_dir`,
                `force_download`, `local_files_only`.

        Raises:
            FileNotFoundError: a file of a local folder is missing.
            ValueError: a file is damaged, or the autoencoder is of another variant than this class.
        """
        from lightning_sae.sae.saving.folder import CONFIG, WEIGHTS, load_sae

        folder = user_path(pretrained_model_name_or_path)
        if not folder.is_dir():
            names = (CONFIG, WEIGHTS)
            files = [hf_hub_download(str(pretrained_model_name_or_path), name, **options) for name in names]
            folder = Path(files[0]).parent
        sae = load_sae(folder)
        if not isinstance(sae, cls):
            raise ValueError(
                f"{pretrained_model_name_or_path} holds a {type(sae).__name__}, not a {cls.__name__}; "
                "SparseAutoencoder.from_pretrained reads any variant"
            )
        return sae

    def _save_pretrained(self, save_directory: Path) -> None:
        from lightning_sae.sae.base import SparseAutoencoder
        from lightning_sae.sae.saving.folder import save_sae

        assert isinstance(self, SparseAutoencoder)
        save_sae(self, save_directory, self.provenance, self.metrics)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Return the card that lies in a saved folder."""
        from lightning_sae.sae.base import SparseAutoencoder
        from lightning_sae.sae.saving.folder import configuration

        assert isinstance(self, SparseAutoencoder)
        return ModelCard(model_card(configuration(self, self.provenance, self.metrics)))
