"""The prompts of the classes and their text embeddings."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lightning_sae.clip import Clip
from lightning_sae.data.images.class_names import readable, spellings
from lightning_sae.data.images.image_set import listed
from lightning_sae.trust.documents import check_texts, read_json, read_yaml


def class_prompts(
    class_names: Sequence[str], templates: Sequence[str], prompts_file: str | Path | None = None
) -> list[list[str]]:
    """Return the prompts of each class.

    They are the filled-in templates, or come from a file `{class: [prompt, ...]}` (JSON or YAML).

    Raises:
        ValueError: no or bad templates, or classes in the file that do not match the data's.

    Example:
        >>> class_prompts(["cat", "dog"], ["a photo of a {}", "a {}"])
        [['a photo of a cat', 'a cat'], ['a photo of a dog', 'a dog']]
    """
    if prompts_file is not None:
        return _from_file(class_names, Path(prompts_file).expanduser())
    check_texts("data.templates", templates)
    if not templates or any("{}" not in template for template in templates):
        raise ValueError(
            f"templates must be at least one text with {{}} where the class goes, got {list(templates)}"
        )
    return [[template.replace("{}", name) for template in templates] for name in class_names]


def _from_file(class_names: Sequence[str], path: Path) -> list[list[str]]:
    prompts, known = dict(zip(*read_prompts(path), strict=True)), [*map(readable, class_names)]
    missing, unknown = [n for n in known if n not in prompts], sorted({*prompts} - {*known})
    if missing or unknown:
        raise ValueError(
            f"{path} must have prompts for exactly the classes {list(class_names)[:10]}...: it lacks "
            f"{missing[:10]} and has unknown {unknown[:10]}"
        )
    return [prompts[name] for name in known]


def read_prompts(path: str | Path) -> tuple[list[str], list[list[str]]]:
    """Return the classes, by readable names, and their prompts, in the order of a file.

    The file holds `{class: [prompt, ...]}`. All are texts as they are written: a class `no` or `007` of a
    YAML file is called so.

    Raises:
        ValueError: the file is damaged, something else is in it, or a class without prompts.
    """
    path = Path(path).expanduser()
    content = (read_json if path.suffix.lower() == ".json" else read_yaml)(path)
    prompts = {name: [value] if isinstance(value, str) else value for name, value in content.items()}
    if empty := [name for name, group in prompts.items() if not group]:
        raise ValueError(f"{path} has no prompts for {', '.join(empty[:10])}: give each class at least one")
    for name, group in prompts.items():
        if not isinstance(group, list) or not all(isinstance(prompt, str) for prompt in group):
            raise ValueError(f"{path}: the prompts of {name!r} must be a list of texts, got {group!r:.200}")
        check_texts(str(path), [name, *group])
        if not all(map(readable, [name, *group])):
            raise ValueError(f"{path} has a blank in {name!r}: {group!r:.200}; give a name and prompts")
    if not prompts:
        raise ValueError(f"{path} must hold {{class: [prompt, ...]}}, and is empty")
    return _each_once(list(prompts), path), list(prompts.values())


def _each_once(names: Sequence[str], path: Path) -> list[str]:
    """Return the readable names of classes; refuse two spellings of one."""
    found = spellings(names)
    if twice := [", ".join(map(repr, own)) for own in found.values() if len(own) > 1]:
        raise ValueError(
            f"{path} spells {len(twice)} classes in several ways:{listed(twice)}\nKeep one of each"
        )
    return [*found]


def embed_prompts(clip: Clip, prompts: Sequence[Sequence[str]]) -> Tensor:
    """Return the unit mean of the unit embeddings of each class's prompts, `[n_classes, d_embed]`.

    The method is that of arXiv 2103.00020.
    """
    texts = clip.encode_text([text for group in prompts for text in group])
    groups = torch.split(texts, [len(group) for group in prompts])
    return normalize(torch.stack([group.mean(0) for group in groups]), dim=-1)
