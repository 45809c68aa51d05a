"""The text tower in front: a CLIP whose examples are texts."""

from typing import Any, ClassVar

from torch import Tensor

from lightning_sae.clip.clip import Clip


class TextClip(Clip):
    """The same frozen model, with texts as the examples that are preprocessed, captured and encoded.

    It shares the weights of the CLIP that it is made from, and does all that a `Clip` does; only what an
    example is differs: `preprocess` makes token ids `[context]` of a text, `encode` embeddings of ids.

    Args:
        clip: the model.
    """

    reads_texts: ClassVar[bool] = True

    def __init__(self, clip: Clip) -> None:
        weights = clip.pretrained, clip.folder, clip.random_seed
        super().__init__(clip.model, self._tokenize, clip.tokenizer, clip.name, *weights)

    def encode(self, inputs: Tensor) -> Tensor:
        """Return the unit embeddings `[n, d_embed]` of token ids `[n, context]`.

        The caller's grad mode holds.
        """
        return self.encode_ids(inputs)

    @property
    def blank(self) -> str:
        """An example without content: here the empty text."""
        return ""

    def identity(self) -> dict[str, str]:
        """Return the identity of a `Clip`, with the tokenizer in place of the preprocessing."""
        return super().identity() | {"preprocess": f"{type(self.tokenizer).__name__}, {self._context} tokens"}

    @property
    def _context(self) -> int:
        return len(self._tokenize(""))

    def _tokenize(self, text: Any) -> Tensor:
        return self.tokenizer([text])[0]
