"""The notebooks run as they stand, in a kernel of their own, and what they show is there to be looked at."""

from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
SHOWN = {
    "look_into_a_clip": ["TopK with 128 latents", "fires on", "scale of the colours"],
    "audit_a_classifier": ["TopK with 256 latents", "Audit of audit_a_classifier", "What to do", "fires on"],
}
"""What a cell of HTML each says, in their order."""
WIDGET = "application/vnd.jupyter.widget-view+json"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_every_notebook_is_run():
    assert {path.stem for path in (ROOT / "docs" / "notebooks").glob("*.py")} == SHOWN.keys()


@pytest.mark.parametrize("name", SHOWN)
def test_it_runs_and_shows(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = jupytext.read(ROOT / "docs" / "notebooks" / f"{name}.py")
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=800, kernel_name="python3", resources=place).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    data = [output.data for output in outputs if "data" in output]
    pages = [part["text/html"] for part in data if "lightning-sae" in part.get("text/html", "")]
    assert len(pages) == len(SHOWN[name])
    for said, page in zip(SHOWN[name], pages, strict=True):
        assert said in page
    assert any(WIDGET in part for part in data)  # a bar of progress
    assert not any("ipywidgets" in output.get("text", "") for output in outputs)
