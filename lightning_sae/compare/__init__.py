"""Runs side by side, from their folders alone; each name is imported when it is first asked for."""

from typing import TYPE_CHECKING

from lightning_sae.lazy import lazily

if TYPE_CHECKING:
    from lightning_sae.compare.comparison import Comparison as Comparison
    from lightning_sae.compare.comparison import compare as compare
    from lightning_sae.compare.files import write as write

__getattr__, __dir__ = lazily(__name__, {".comparison": ["Comparison", "compare"], ".files": ["write"]})
