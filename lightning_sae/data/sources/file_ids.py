"""Image files by their ids: where a table names pictures without folder or extension."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from lightning_sae.data.images.image_set import listed


def locate(root: Path, pattern: str, ids: Sequence[str]) -> list[str]:
    """Return the path of each id's file, relative to `root`; if there is none, the path looked for.

    Args:
        root: where the pattern starts.
        pattern: such as `part_*/{}.jpg`: `{}` is the id, in the name of the file; folders may have `*`,
            and `**` stands for any depth.
        ids: of the images.

    Raises:
        ValueError: a pattern without `{}` in the file's name, or ids that several files have.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> (root / "part_2").mkdir(), (root / "part_2" / "a.jpg").touch()
        (None, None)
        >>> locate(root, "part_*/{}.jpg", ["a", "b"])
        ['part_2/a.jpg', 'part_*/b.jpg']
    """
    name = PurePosixPath(pattern).name
    if pattern.count("{}") != 1 or "{}" not in name or "*" in name or pattern.startswith("/"):
        raise ValueError(
            f"data.files must be a path from data.root on with {{}} once, in the name of the file, and any * "
            f"in the folders before it, as 'part_*/{{}}.jpg'; got {pattern!r}"
        )
    if "*" not in pattern:
        return [pattern.replace("{}", image) for image in ids]
    before, after = (len(part) for part in name.split("{}"))
    found: dict[str, list[str]] = {}
    for path in root.glob(pattern.replace("{}", "*")):
        image = path.name[before : len(path.name) - after]
        found.setdefault(image, []).append(path.relative_to(root).as_posix())
    if twice := [
        f"{image}: {', '.join(sorted(found[image]))}" for image in ids if len(found.get(image, ())) > 1
    ]:
        raise ValueError(
            f"{len(twice)} images have several files in {root}:{listed(sorted(twice))}\nSay which folders "
            "are meant with data.files"
        )
    return [found.get(image, [pattern.replace("{}", image)])[0] for image in ids]
