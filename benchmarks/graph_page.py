"""The page of a graph in a browser: `python benchmarks/graph_page.py PAGE`, of `explain --graph`.

Says how many nodes and edges it has, when it can be used, and how long it takes from pointing at a node until
the next picture is drawn: the median, and what 95 % stay below, in Debian's headless Chromium.
"""

import argparse
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from explorer_page import chromium

OPENS, NODES = 5, 60
POINT = """
const [place, done] = arguments;
const nodes = [...document.querySelectorAll(".stage .node")];
const start = performance.now();
nodes[place % nodes.length].dispatchEvent(new MouseEvent("mouseenter"));
requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
"""


def opened(driver: Any, page: Path) -> float:
    """Return milliseconds until a page can be used."""
    driver.get("about:blank")
    driver.get(page.resolve().as_uri())
    while not driver.execute_script("return document.body.dataset.ready"):
        time.sleep(0.01)
    return float(driver.execute_script("document.body.offsetHeight; return performance.now()"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path)
    page = parser.parse_args().page
    driver = chromium()
    try:
        opens = [opened(driver, page) for _ in range(OPENS)]
        counts = [
            driver.execute_script(f"return document.querySelectorAll('{css}').length")
            for css in (".stage .node", ".edges .edge")
        ]
        pointed = [driver.execute_async_script(POINT, 7 * i) for i in range(NODES)]
    finally:
        driver.quit()
    print(f"{counts[0]} nodes, {counts[1]} edges, {page.stat().st_size / 1e6:.1f} MB")
    print(f"can be used after {median(opens):.0f} ms")
    most = quantiles(pointed, n=20)[-1]
    print(f"a node shows what it is after {median(pointed):.0f} ms (95 %: {most:.0f} ms)")


if __name__ == "__main__":
    main()
