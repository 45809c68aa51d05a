"""How the weights of a CLIP were trained, where they do not tell: activation function and preprocessing."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import open_clip
from open_clip.transform import merge_preprocess_dict

QUICK_GELU = "quick_gelu"
_OPENAI_MARKS = {
    "input_resolution",
    "context_length",
    "vocab_size",
}  # beside the weights that OpenAI publishes


class Recipe(NamedTuple):
    """The settings that a model was trained with, and has to be given beside its weights.

    Attributes:
        quick_gelu: whether its activation function is `x * sigmoid(1.702 x)`, as in OpenAI's models, and not
            the GELU; `None` where nobody has said so.
        preprocess: mean, std, interpolation and resize mode of its images, as far as somebody has said so.
    """

    quick_gelu: bool | None = None
    preprocess: Mapping[str, Any] = {}

    def settings(self) -> dict[str, Any]:
        """Return all that is known, by name."""
        gelu = {} if self.quick_gelu is None else {QUICK_GELU: self.quick_gelu}
        return {**self.preprocess, **gelu}

    def completed(self, other: "Recipe") -> "Recipe":
        """Return this recipe, completed with what only the other one knows.

        Example:
            >>> Recipe(True).completed(Recipe(False, {"resize_mode": "squash"}))
            Recipe(quick_gelu=True, preprocess={'resize_mode': 'squash'})
        """
        gelu = other.quick_gelu if self.quick_gelu is None else self.quick_gelu
        return Recipe(gelu, {**other.preprocess, **self.preprocess})


def stated_recipe(config: Mapping[str, Any], preprocess: Mapping[str, Any]) -> Recipe:
    """Return the recipe that a model config states; a missing `quick_gelu` states nothing.

    Example:
        >>> stated_recipe({"embed_dim": 512, "quick_gelu": True}, {"mean": [0, 0, 0]})
        Recipe(quick_gelu=True, preprocess={'mean': (0, 0, 0)})
    """
    return Recipe(config.get(QUICK_GELU), _preprocess(preprocess))


def tag_recipe(name: str, tag: str) -> Recipe:
    """Return the recipe of one of open_clip's tags.

    Example:
        >>> [tag_recipe("ViT-B-32", tag).quick_gelu for tag in ("openai", "laion2b_s34b_b79k")]
        [True, False]
    """
    config, model = open_clip.get_pretrained_cfg(name, tag), open_clip.get_model_config(name)
    quick = config.get(QUICK_GELU) or model.get(QUICK_GELU)  # the tag of a model that has it need not say so
    return Recipe(bool(quick), _preprocess(config))


def tags_of(names: Iterable[str]) -> dict[str, Recipe]:
    """Return the recipes of all tags of some models, each tag once."""
    return {
        tag: tag_recipe(name, tag) for name in names for tag in open_clip.list_pretrained_tags_by_model(name)
    }


def openai_recipe(keys: Iterable[str]) -> Recipe | None:
    """Return the recipe of OpenAI's own models, if the keys of a state dict are those of one.

    Example:
        >>> openai_recipe(["visual.proj", "input_resolution", "context_length", "vocab_size"]).quick_gelu
        True
        >>> openai_recipe(["visual.proj"])
    """
    return tag_recipe("ViT-B-32", "openai") if set(keys) >= _OPENAI_MARKS else None


def without_openai_marks(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict without the numbers that OpenAI's state dicts have beside the weights."""
    return {key: value for key, value in state.items() if key not in _OPENAI_MARKS}


def same_models(config: Mapping[str, Any]) -> list[str]:
    """Return the names of open_clip's models that differ from a config at most in the activation function.

    Example:
        >>> same_models(open_clip.get_model_config("ViT-B-32"))
        ['ViT-B-32', 'ViT-B-32-quickgelu']
    """
    wanted = _architecture(config)
    models = open_clip.list_models()
    return [name for name in models if _architecture(open_clip.get_model_config(name)) == wanted]


def agreed_recipe(stated: Recipe, tags: Mapping[str, Recipe]) -> Recipe:
    """Return a recipe, completed by the tags of its model with all that it does not state itself.

    Args:
        stated: what is known already; tags that contradict its `quick_gelu` are left out.
        tags: of `tags_of`.

    Raises:
        ValueError: the tags disagree on something that is not stated; names it, and each tag's value.

    Example:
        >>> agreed_recipe(Recipe(), tags_of(["MobileCLIP-S1"])).preprocess["interpolation"]
        'bilinear'
    """
    fitting = {
        tag: recipe
        for tag, recipe in tags.items()
        if stated.quick_gelu is None or recipe.quick_gelu == stated.quick_gelu
    }
    known = stated.settings()
    values: dict[str, dict[Any, list[str]]] = {}
    for tag, recipe in fitting.items():
        for key, value in recipe.settings().items():
            if key not in known:
                values.setdefault(key, {}).setdefault(value, []).append(tag)
    differing = {key: found for key, found in values.items() if len(found) > 1}
    if differing:
        raise ValueError("; ".join(f"{key}: {_by_value(found)}" for key, found in differing.items()))
    for recipe in fitting.values():
        stated = stated.completed(recipe)
    return stated


def _by_value(found: Mapping[Any, list[str]]) -> str:
    return ", ".join(f"{value} ({', '.join(tags)})" for value, tags in found.items())


def _architecture(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != QUICK_GELU}


def _preprocess(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the preprocessing settings without the size, which the model has; lists become tuples."""
    known = merge_preprocess_dict({}, dict(settings))
    return {k: tuple(v) if isinstance(v, list) else v for k, v in known.items() if k != "size"}
