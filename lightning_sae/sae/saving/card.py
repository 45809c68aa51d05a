"""The model card of a saved autoencoder: what it is, what it is valid for, how good it is, how to load it."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import ModelCardData

TAGS = ["sparse-autoencoder", "clip", "interpretability"]
GIVEN = """
A layer norm hands mean and spread of each token past the latents: `val/fvu` does not compare with that of
autoencoders without one.
"""


def model_card(config: Mapping[str, Any]) -> str:
    """Return the text of `README.md` in a saved autoencoder's folder.

    Args:
        config: content of its `cfg.json`.

    Example:
        >>> config = {"variant": "TopK", "d_in": 4, "d_sae": 8, "provenance": {}}
        >>> "| `val/fvu` | 0.25 |" in model_card(config | {"metrics": {"val/fvu": 0.25}})
        True
    """
    head = ModelCardData(library_name="lightning_sae", tags=TAGS).to_yaml()
    made_for = "".join(f"| {name} | `{value}` |\n" for name, value in _flat(config["provenance"]))
    metrics = "".join(f"| `{name}` | {value:.4g} |\n" for name, value in config["metrics"].items())
    given = GIVEN if config.get("normalisation") == "layer_norm" else ""
    return f"""---
{head}
---

# {config["variant"]} sparse autoencoder, {config["d_sae"]} latents on width {config["d_in"]}

Takes raw activations of the CLIP layer that it was trained on:

| | |
|---|---|
{made_for}
Metrics of its last validation pass:

| | |
|---|---|
{metrics}{given}
## How to load it

```python
from lightning_sae.sae import SparseAutoencoder

sae = SparseAutoencoder.from_pretrained("FOLDER or USER/NAME on the Hub")
x_hat, latents = sae(x)  # x [n, {config["d_in"]}], activations
```
"""


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return the nested values as `a.b`."""
    pairs = []
    for name, value in values.items():
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, value)]
        pairs.extend(inner)
    return pairs
