"""`lightning-sae`, the program: a file per command says what it takes, and imports its tool when it runs."""

from lightning_sae.program.program import app, command, main

__all__ = ["app", "command", "main"]
