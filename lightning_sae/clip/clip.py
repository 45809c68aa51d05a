"""The audited CLIP: frozen, in eval mode, loaded through open_clip."""

import hashlib
import json
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from PIL import Image
from torch import Tensor, nn

from lightning_sae.files import user_path
from lightning_sae.trust.numbers import check_counts

if TYPE_CHECKING:
    from lightning_sae.clip.loading.sources import Preprocess, Tokenizer


class Clip(nn.Module):
    """A frozen open_clip model with its preprocessing and tokenizer.

    It stays in eval mode whatever `train` is asked for, and no parameter requires a gradient: gradients only
    flow to activations. Embeddings are unit vectors in float32, whatever precision the weights have (float64
    for a model cast to it).

    Attributes:
        model: the open_clip model (`CLIP`, `CustomTextCLIP` or `CoCa`); hook points are paths inside it.
        preprocess: PIL image -> `[3, H, W]` tensor.
        prepare: the part of it that is done to each image, wherever it is decoded: PIL image -> bytes
            `[H, W, 3]` for the transforms of open_clip.
        finish: the rest, for a batch on the model's device: bytes `[n, H, W, 3]` -> `[n, 3, H, W]`.
        tokenizer: texts -> `[m, context]` token ids.
        name: the model's name, with `-quickgelu` where its weights ask for that activation function; of a
            local config its stem and a digest of its content.
        pretrained: tag or file name of the weights; `random seed N` for those drawn with a seed; `None` for
            other random weights or a hub model's own.
        folder: name of the folder that a file of weights lies in; "" for all others.
        random_seed: that the weights were drawn with; `None` for a CLIP that has learned something.
        reads_texts: whether the examples that it encodes are texts, see `TextClip`.
    """

    reads_texts: ClassVar[bool] = False

    def __init__(
        self,
        model: Any,  # open_clip has no types
        preprocess: "Preprocess",
        tokenizer: "Tokenizer",
        name: str,
        pretrained: str | None,
        folder: str = "",
        random_seed: int | None = None,
    ) -> None:
        from lightning_sae.clip.preprocessing import in_two_parts  # and torchvision, slowly

        super().__init__()
        self.model: Any = model.requires_grad_(False)
        self.preprocess = preprocess
        self.prepare, self.finish = in_two_parts(preprocess)
        self.tokenizer = tokenizer
        self.name = name
        self.pretrained = pretrained
        self.folder = folder
        self.random_seed = random_seed
        self.text_features = nn.Identity()  # final text embeddings pass it, so that they can be hooked
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Keep eval mode: a trainer that switches everything to training does not switch this."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the image tower's matrix products; layer norms may stand in float32."""
        return next(m.weight.dtype for m in self.visual.modules() if isinstance(m, nn.Conv2d | nn.Linear))

    @property
    def visual(self) -> Any:
        """The image tower."""
        return self.model.visual

    @property
    def text(self) -> Any:
        """The holder of the text tower: a module of its own, or the model itself for a plain `CLIP`."""
        return getattr(self.model, "text", self.model)

    @property
    def tower(self) -> str:
        """The tower that encodes the examples, in words."""
        return f"the {'text' if self.reads_texts else 'image'} tower of {self.name}"

    @property
    def logit_scale(self) -> float:
        """The factor between cosines and logits, exp of the learned temperature."""
        scale: Tensor = self.model.logit_scale
        return scale.detach().double().exp().item()

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the pixels."""
        size: int | Sequence[int] = self.visual.preprocess_cfg["size"]
        return (size, size) if isinstance(size, int) else (size[0], size[1])

    @property
    def blank(self) -> Any:
        """An example without content: here a black image."""
        return Image.new("RGB", self.image_size[::-1])

    @cached_property
    def embed_dim(self) -> int:
        """Width of the joint embedding, by one dry forward."""
        with torch.inference_mode(False), torch.no_grad():
            return self.encode_image(torch.zeros(1, 3, *self.image_size)).shape[1]

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Return the unit embeddings `[n, d_embed]` of preprocessed images `[n, 3, H, W]`.

        The caller's grad mode holds.
        """
        features: Tensor = self.model.encode_image(pixels.to(self.device, self.dtype))
        return unit(features.flatten(1))  # an attention pool with one query gives [n, 1, d_embed]

    def encode(self, inputs: Tensor) -> Tensor:
        """Return the unit embeddings of preprocessed examples: here images."""
        return self.encode_image(inputs)

    def encode_ids(self, ids: Tensor) -> Tensor:
        """Return the unit embeddings `[m, d_embed]` of token ids `[m, context]`.

        The caller's grad mode holds.
        """
        return unit(self.text_features(self.model.encode_text(ids.to(self.device).long())))

    def encode_text(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """Return the unit embeddings `[m, d_embed]` of texts; longer ones are cut at the context length.

        Works under any grad mode, and gives plain tensors: they may enter autograd later, also when asked for
        inside `torch.inference_mode`.

        Raises:
            ValueError: no texts, a single string where a sequence of them is expected, or embeddings that are
                NaN: the weights of the text tower are.
        """
        if isinstance(texts, str) or len(texts) == 0:
            raise ValueError(f"texts must be a sequence of at least one string, got {texts!r}")
        with torch.inference_mode(False), torch.no_grad():
            ids = self.tokenizer(list(texts))
            found = torch.cat([self.encode_ids(part) for part in torch.split(ids, batch_size)])
        if (bad := found.isnan().any(1)).any():
            first = texts[int(bad.nonzero()[0])]
            raise ValueError(
                f"{int(bad.sum())} of {len(texts)} texts have NaN embeddings by the text tower of "
                f"{self.name}, the first is {first!r}: use clip.precision=fp32, or check the weights of the "
                "checkpoint"
            )
        return found

    def identity(self) -> dict[str, str]:
        """Return what an activation depends on, for fingerprints and provenance.

        The result holds no path of this machine.

        Returns:
            `model`, `pretrained` (`"none"` where there is none), `weights` (sha256 of names, precisions,
            shapes and values), `preprocess` (its settings as JSON).
        """
        return {
            "model": self.name,
            "pretrained": self.pretrained or "none",
            "weights": self._weights,
            "preprocess": json.dumps(self.visual.preprocess_cfg, sort_keys=True),
        }

    @cached_property
    def _weights(self) -> str:
        digest = hashlib.sha256()
        for key, value in sorted(self.model.state_dict().items()):
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()


def load_clip(
    model: str | Path,
    pretrained: str | Path | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    cache_dir: str | None = None,
    like: str | None = None,
    random_seed: int | None = None,
) -> Clip:
    """Load a CLIP by open_clip's own words, or from local files.

    Weights do not tell the activation function and the preprocessing that they were trained with. A tag has
    both. Of a local file they are taken from the model config; then from `like`, from an
    `open_clip_config.json` beside the file, or from the marks of OpenAI's own files; and then from the tags
    of the model, where these agree. Only a model without tags gets what open_clip takes by itself: GELU, and
    OpenAI's mean, std, interpolation and resize mode.

    Args:
        model: a name of `open_clip.list_models()`, `hf-hub:ORG/NAME`, or the path of an open_clip model
            config `.json` (plain, or with `model_cfg` and `preprocess_cfg` as on the hub).
        pretrained: one of the model's tags, or the path of a `.pt` or `.safetensors` checkpoint; `None` gives
            random weights, with a warning (a hub model brings its own).
        precision: of the weights. bf16 is several times faster and changes activations by about 1 %.
        cache_dir: where fetched weights are kept; `None` for the libraries' default.
        like: for a local checkpoint, the tag of the model that was trained with the same activation function
            and preprocessing, such as the one that it was tuned from.
        random_seed: gives the model as open_clip initialises it, with weights drawn with this seed, in place
            of the pretrained ones; activation function and preprocessing stay theirs. What is measured on it
            is what nothing learned gives (Adebayo et al. 2018, arXiv 1810.03292). The weights of a tag are
            not fetched.

    Raises:
        FileNotFoundError: a config or checkpoint file is missing.
        ValueError: unknown model or tag; broken config; a checkpoint that is unreadable, does not fit, or
            does not tell how it was trained; `like` beside weights that tell it; a negative seed.
        ConnectionError: something has to be fetched and cannot be.
    """
    from lightning_sae.clip.loading.sources import (  # and open_clip, slowly
        build,
        build_random,
        find_source,
        load_weights,
    )

    check_counts(0, random_seed=random_seed)
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"precision must be fp32 or bf16, got {precision!r}")
    cache_dir = None if cache_dir is None else str(user_path(cache_dir))
    source = find_source(model, pretrained, cache_dir, like, fetch=random_seed is None)
    if random_seed is not None:
        random = build_random(source, precision, cache_dir, random_seed)
        return Clip(*random, source.name, f"random seed {random_seed}", random_seed=random_seed)
    built, preprocess, tokenizer = build(source, precision, cache_dir)
    if source.checkpoint is None:
        warnings.warn(f"{source.name} has random weights; for a real CLIP set clip.pretrained", stacklevel=2)
    else:
        load_weights(built, source)
    if pretrained is None or source.tag is not None:
        return Clip(built, preprocess, tokenizer, source.name, source.tag)
    path = user_path(pretrained).absolute()
    return Clip(built, preprocess, tokenizer, source.name, path.name, path.parent.name)


def unit(features: Tensor) -> Tensor:
    """Return the rows of unit length, in float32 or better.

    Example:
        >>> unit(torch.tensor([[3.0, 4.0]], dtype=torch.bfloat16)).tolist()
        [[0.6..., 0.8...]]
    """
    return nn.functional.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=-1)
