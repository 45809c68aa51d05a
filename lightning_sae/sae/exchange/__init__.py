"""Autoencoders of other libraries, read and written: one file per format."""

from pathlib import Path

from lightning_sae.files import replacing_folder, user_path
from lightning_sae.sae.base import SparseAutoencoder
from lightning_sae.sae.exchange import attributing_clip, dictionary_learning, saelens, sparsify
from lightning_sae.sae.saving.folder import load_sae, save_sae

FOREIGN = {
    "saelens": saelens,
    "sparsify": sparsify,
    "dictionary_learning": dictionary_learning,
    "attributing_clip": attributing_clip,
}
OURS = "lightning_sae"

__all__ = ["FOREIGN", "OURS", "convert", "export_sae", "import_sae"]


def import_sae(path: str | Path, source: str | None = None, k: int | None = None) -> SparseAutoencoder:
    """Read an autoencoder of this or another library, in evaluation mode on raw activations.

    Args:
        path: folder, or checkpoint of the paper's code.
        source: `lightning_sae`, `saelens`, `sparsify`, `dictionary_learning` or `attributing_clip`; `None`
            tells it from the files.
        k: active latents per token, for a checkpoint of the paper's code that does not say it.

    Raises:
        FileNotFoundError: nothing is there, or a file is missing.
        ValueError: the format is not recognised, or a file does not fit it.
    """
    path = user_path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if source is None:
        source = next((name for name, kind in FOREIGN.items() if kind.recognises(path)), OURS)
    if source == "attributing_clip":
        return attributing_clip.read(path, k)
    if source == OURS:
        return load_sae(path)
    if source not in FOREIGN:
        raise ValueError(f"the format must be one of {', '.join([OURS, *FOREIGN])}, got {source!r}")
    sae: SparseAutoencoder = FOREIGN[source].read(path)
    return sae


def export_sae(sae: SparseAutoencoder, folder: str | Path, to: str) -> None:
    """Write an autoencoder for another library; the folder appears whole or not at all.

    Args:
        sae: any variant.
        folder: new.
        to: `saelens`, or `lightning_sae`.

    Raises:
        FileExistsError: the folder exists.
        NoRoomError: the disk is full.
        ValueError: another format, or a variant that it does not have.
    """
    folder = user_path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists; name a new folder")
    if to == OURS:
        save_sae(sae, folder, sae.provenance, sae.metrics)
        return
    if to != "saelens":
        raise ValueError(f"an autoencoder can be written for {OURS} or saelens, got {to!r}")
    with replacing_folder(folder) as new:
        saelens.write(sae, new)


def convert(
    src: str | Path, dst: str | Path, to: str, source: str | None = None, k: int | None = None
) -> str:
    """Read one format and write another; return in a sentence what was converted.

    Args:
        src: what `import_sae` reads.
        dst: new folder.
        to: `saelens` or `lightning_sae`.
        source: format of `src`; `None` tells it from the files.
        k: active latents per token, see `import_sae`.
    """
    sae = import_sae(src, source, k)
    export_sae(sae, dst, to)
    return f"{type(sae).__name__} with {sae.d_sae} latents of width {sae.d_in}, for {to}: {dst}"
