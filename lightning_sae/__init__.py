"""Sparse autoencoders on CLIP, with interpretability tracked during training like a loss.

In a notebook, `import lightning_sae as ls`; each name is imported when it is first asked for:

- `ls.train` trains as `python train.py` does, and returns the run;
- `ls.open_run` opens the folder of a run, `ls.load_sae` and `ls.load_clip` load a part of it;
- `ls.explain_image` says which latents drive the score of an image and a text;
- `ls.audit_classifier` says what a classifier relies on that nobody intended;
- `ls.intervene` sets or scales latents while CLIP runs, `ls.Scale` says by how much.
"""

from typing import TYPE_CHECKING

from lightning_sae.lazy import lazily

if TYPE_CHECKING:
    from lightning_sae.audit.shown import audit_classifier as audit_classifier
    from lightning_sae.clip import load_clip as load_clip
    from lightning_sae.composing.training import train as train
    from lightning_sae.explain.image_explanation import explain_image as explain_image
    from lightning_sae.runs.folder import open_run as open_run
    from lightning_sae.sae import load_sae as load_sae
    from lightning_sae.steering.intervention import Scale as Scale
    from lightning_sae.steering.intervention import intervene as intervene

__version__ = "0.1.0"
__all__ = [
    "Scale",
    "audit_classifier",
    "explain_image",
    "intervene",
    "load_clip",
    "load_sae",
    "open_run",
    "train",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        ".audit.shown": ["audit_classifier"],
        ".explain.image_explanation": ["explain_image"],
        ".clip": ["load_clip"],
        ".sae": ["load_sae"],
        ".runs.folder": ["open_run"],
        ".composing.training": ["train"],
        ".steering.intervention": ["Scale", "intervene"],
    },
)
