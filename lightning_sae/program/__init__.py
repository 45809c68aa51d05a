"""The program `lightning-sae`: each command's file declares its arguments and imports its tool when run."""

from lightning_sae.program.program import app, command, main

__all__ = ["app", "command", "main"]
