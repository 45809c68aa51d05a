"""The audit: which classes rely on what nobody intended, with evidence, effect and a way out."""

from lightning_sae.audit.findings import Audit, Finding, read_audit, write_audit

__all__ = ["Audit", "Finding", "read_audit", "write_audit"]
