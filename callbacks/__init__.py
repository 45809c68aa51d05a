"""The plug-ins: when, on which images, under which key. The formulas live in `lightning_sae`."""
