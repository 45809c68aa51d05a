"""What CLIPs are called beside each other: no longer than it takes to tell different weights apart."""

from collections.abc import Mapping, Sequence

from lightning_sae.clip.clip import Clip

DIGITS = 8  # of the hash of weights


def clip_titles(*clips: Clip) -> list[str]:
    """Return the titles of CLIPs: the model's name, and the tag or the file name of its weights.

    Where different weights would get the same titles, the names of the folders stand before those of the
    files; where they still would, the first digits of the hash of the weights come last.
    """
    return identity_titles([{**clip.identity(), "folder": clip.folder} for clip in clips])


def identity_titles(identities: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the same titles from the results of `Clip.identity()`, which may have a `folder` as well.

    Example:
        >>> best = {"model": "ViT-B-32", "pretrained": "best.pt", "weights": "0123456789ab"}
        >>> identity_titles([best, {**best, "model": "ViT-L-14"}])
        ['ViT-B-32 best.pt', 'ViT-L-14 best.pt']
        >>> fair = {**best, "weights": "ba9876543210", "folder": "fair"}
        >>> identity_titles([{**best, "folder": "biased"}, fair])
        ['ViT-B-32 biased/best.pt', 'ViT-B-32 fair/best.pt']
        >>> identity_titles([{**best, "folder": "fair"}, fair])
        ['ViT-B-32 fair/best.pt 01234567', 'ViT-B-32 fair/best.pt ba987654']
    """
    weights = [identity["weights"] for identity in identities]
    files = [_file(identity) for identity in identities]
    placed = [_file(identity, identity.get("folder", "")) for identity in identities]
    hashed = [f"{file} {key[:DIGITS]}" for file, key in zip(placed, weights, strict=True)]
    told = (titles for titles in (files, placed) if _tell_apart(titles, weights))
    return next(told, hashed)


def _tell_apart(titles: Sequence[str], weights: Sequence[str]) -> bool:
    """Return whether no title belongs to two different weights."""
    return len(set(titles)) == len(set(zip(titles, weights, strict=True)))


def _file(identity: Mapping[str, str], folder: str = "") -> str:
    pretrained = identity["pretrained"].removeprefix("none")
    return " ".join(filter(None, (identity["model"], "/".join(filter(None, (folder, pretrained))))))
