"""`audit.html`: an audit as one page that needs nothing beside it, no server and no network."""

from lightning_sae.audit.report.page import write_report

__all__ = ["write_report"]
