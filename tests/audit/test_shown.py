"""An audit as a notebook gets it: as the files have it, as tables, and to be looked at."""

import pytest

import lightning_sae as ls
from lightning_sae.audit import read_audit
from lightning_sae.audit.shown import ShownAudit

from .fabricated import HOSTILE, audit, culprit, finding, latent_table, noise_images, result, run_folder


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """Two findings of hostile names; the images are noise, and there are no heatmaps."""
    name = HOSTILE[1]
    table = latent_table(20, HOSTILE[:2], (name, "moon"), 40)
    run = run_folder(tmp_path / "run", table, (name, "moon"), noise_images(40))
    monkeypatch.setattr(ShownAudit, "heatmaps", None)
    found = (
        finding(1, name, (culprit(7, HOSTILE[0]), culprit(8, ""))),
        finding(2, "moon", (culprit(9, "sun"),)),
    )
    return ShownAudit(audit((result(name, (1,)), result("moon", (2,))), found), run)


def test_tables(shown):
    table = shown.to_frame()
    assert table.index.tolist() == [HOSTILE[1], "moon"]
    assert table["findings"].tolist() == [(1,), (2,)]
    assert table["unexpected_share"].tolist() == [0.9, 0.9]
    assert shown.finding(1).to_frame().index.tolist() == [7, 8]
    assert shown.findings[1].finding == shown.audit.findings[1]
    with pytest.raises(ValueError, match="there is no finding 3"):
        shown.finding(3)


def test_what_shows_is_escaped_and_links_nowhere(shown):
    for each in (shown, *shown.findings):
        page = each._repr_html_()
        assert "<script" not in page
        assert "<img src=x" not in page
        assert "href=" not in page
    assert "2 of 2 classes rely on something" in shown._repr_html_()
    assert shown.finding(1)._repr_html_().count("<img") == 2 * 3  # examples of its culprits
    assert "2 findings" in repr(shown)
    assert "high spurious" in repr(shown.finding(1))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_auditing_writes_what_the_command_writes(small_run, tmp_path):
    found = ls.audit_classifier(ls.open_run(small_run), folder=tmp_path, min_images=3)
    assert read_audit(tmp_path) == found.audit
    assert (tmp_path / "audit.html").is_file()
    assert "Audit of" in found._repr_html_()
