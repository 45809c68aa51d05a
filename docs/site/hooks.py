"""Hooks of MkDocs: pages of the program and of docstrings, links that leave `docs/`, formulas as MathML."""

import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from html import unescape
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]  # the package of this clone, and the pages' parts
from program import helps  # noqa: E402

PACKAGES = ("lightning_sae", "callbacks")
ROOT_PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
OUTSIDE = re.compile(r"\]\((?:\.\./)+((?:lightning_sae|callbacks|conf|tests|benchmarks)/)")
COMPLETION = """\
`lightning-sae --install-completion`, typed once, has TAB complete commands, options and their values in bash
and zsh, from the next terminal on. `lightning-sae --show-completion` prints the script, to be kept elsewhere.
"""
INLINE = re.compile(r'<span class="arithmatex">\\\((.+?)\\\)</span>')
BLOCK = re.compile(r'<div class="arithmatex">\\\[(.+?)\\\]</div>', re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the pages of the API in the place of `reference`."""
    (place,) = (section for section in config.nav if "Reference" in section)
    place["Reference"] = [{room: f"reference/{room}.md"} for room in rooms()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what no file of `docs/` holds."""
    pages = {f"reference/{room}.md": reference(room, modules) for room, modules in rooms().items()}
    pages |= {name.lower(): from_root(name) for name in ROOT_PAGES}
    pages["commands.md"] = commands()
    for uri, text in pages.items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(text: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links that leave `docs/` to the repository."""
    return OUTSIDE.sub(rf"]({config.repo_url}/blob/main/\1", text)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Write formulas as MathML, which browsers draw by themselves."""
    html = INLINE.sub(lambda found: mathml(found[1], "inline"), html)
    return BLOCK.sub(lambda found: mathml(found[1], "block"), html)


def mathml(formula: str, display: str) -> str:
    """Return a formula of LaTeX as MathML."""
    return convert(unescape(formula).strip(), display=display)


def rooms() -> dict[str, list[str]]:
    """Return the modules of each package, by its name without `lightning_sae`."""
    found = defaultdict(list)
    for module in modules():
        found[module.rpartition(".")[0].removeprefix("lightning_sae.")].append(module)
    return {
        name: found[name]
        for name in sorted(found, key=lambda name: (name == "callbacks", name != "lightning_sae", name))
    }


def modules() -> Iterator[str]:
    """Yield the modules that define something."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            words = path.relative_to(ROOT).with_suffix("").parts
            if not words[-1].startswith("_"):
                yield ".".join(words)


def reference(room: str, modules: list[str]) -> str:
    """Return the page of a package: what it is for, and its modules."""
    name = room if room in PACKAGES else f"lightning_sae.{room}"
    front = f"::: {name}\n    options:\n      members: false\n      heading_level: 1\n"
    return "\n".join([front, *(f"::: {module}\n" for module in modules)])


def from_root(name: str) -> str:
    """Return a file of the repository's root as a page of the site."""
    return (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")


def commands() -> str:
    """Return the page of all commands: the help that each prints."""
    helps_ = (f"## `{name}`\n\n```text\n{text}\n```\n" for name, text in helps())
    return "\n".join(["# All commands\n", COMPLETION, "What each says to `--help`.\n", *helps_])
