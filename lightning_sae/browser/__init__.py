"""The latents of a run in a page: columns, pictures on sheets, and the scripts that search, sort and draw."""

from lightning_sae.browser.columns import latent_columns, rounded
from lightning_sae.browser.examples import LatentExamples, by_relevance, first_examples
from lightning_sae.browser.sheets import ExampleSheets, collect_examples
from lightning_sae.report.style import script_of

__all__ = [
    "ExampleSheets",
    "LatentExamples",
    "by_relevance",
    "collect_examples",
    "first_examples",
    "latent_columns",
    "module",
    "rounded",
]

SHARED = ("content", "elements", "latents", "words", "scatter")


def module(package: str, *names: str) -> str:
    """Return the script of a page: the files of this package, and those of another package's `scripts`.

    Args:
        package: name of the other package, such as `lightning_sae.audit.report`.
        names: names of its files, which follow the shared ones in this order.
    """
    return script_of(__package__, SHARED) + script_of(package, names)
