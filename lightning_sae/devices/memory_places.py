"""The places in the program where a GPU's memory can run short, and the settings that help there."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

Settings = Mapping[str, str]
"""Argument of train.py or of a command, with N for a number -> description of its effect."""


class MemoryPlace(NamedTuple):
    """A place where memory can run short.

    Attributes:
        doing: description of the work at this place.
        settings: settings that help there.
    """

    doing: str
    settings: Settings


IN_FILES = {"data.memory_limit_gb=0": "leaves the activations in files, read ahead of the training"}
FEWER_LATENTS = {"sae.d_sae=N": "fewer latents; a weight takes 16 bytes, with gradient and Adam's moments"}
SMALLER_PASSES = {
    "data.eval_batch_size=N": "fewer activations at a time",
    "data.n_probe=N": "fewer probe images",
}
LOADING = MemoryPlace("CLIP and its judge were loaded", {"clip.precision=bf16": "weights of half the size"})
CAPTURE = MemoryPlace(
    "CLIP looked at images", {"data.capture_batch_size=N": "fewer images per pass", **LOADING.settings}
)
STORE = MemoryPlace(
    "activations were read",
    {
        **IN_FILES,
        "data.batch_size=N": "smaller batches in training",
        "data.eval_batch_size=N": "smaller batches in validation",
    },
)
TRAINING = MemoryPlace(
    "the autoencoder was trained",
    {
        "data.batch_size=N": "fewer activations per step",
        **FEWER_LATENTS,
        "trainer.precision=bf16-mixed": "candidates, residuals and their rows in 16 bits",
        **IN_FILES,
    },
)
VALIDATION = MemoryPlace("a validation pass ran", {**SMALLER_PASSES, **FEWER_LATENTS, **IN_FILES})
ANYWHERE = MemoryPlace("it was at work", {**TRAINING.settings, **SMALLER_PASSES})
AVERAGE = {"~callbacks.ema": "no second copy of the weights", **TRAINING.settings}
REMOVALS = {"--top N": "fewer latents without which the image is scored"}

PLACES = {
    "lightning_sae.runs.folder": LOADING,
    "lightning_sae.data.datamodule": LOADING,
    "lightning_sae.data.capture.clip_pass": CAPTURE,
    "lightning_sae.data.probe_images": CAPTURE,
    "lightning_sae.data.capture.precision": CAPTURE,
    "lightning_sae.data.store.activations": STORE,
    "lightning_sae.data.joint": STORE,
    "lightning_sae.data.loading.shuffle": STORE,
    "lightning_sae.data.loading.loaders": STORE,
    "lightning_sae.training.module": TRAINING,
    "lightning_sae.training.module.validation_step": VALIDATION,
    "lightning_sae.training.module.on_validation_epoch_end": VALIDATION,
    "lightning_sae.explain.explanation": MemoryPlace("an image was explained", REMOVALS),
    "lightning_sae.audit": MemoryPlace("a classifier was audited", SMALLER_PASSES),
    "lightning_sae.correct": MemoryPlace(
        "a classifier was corrected", {**SMALLER_PASSES, **CAPTURE.settings}
    ),
    "callbacks.base": VALIDATION,
    "callbacks.ema": MemoryPlace(TRAINING.doing, AVERAGE),
}
"""Package, module, or function of a module -> place with the work that it does."""

OF_CALLBACKS: Mapping[str, Settings] = {
    "alignment": {"callbacks.alignment.draws=N": "fewer random image sets"},
    "attribution": {},
    "edges": {
        "callbacks.edges.n_images=N": "fewer images of a class",
        "callbacks.edges.batch_size=N": "fewer images whose gradients are held at a time",
    },
    "faithfulness": {"callbacks.faithfulness.batch_size=N": "fewer edited images at a time"},
    "hierarchy": {},
    "image_latents": {},
    "probe_vs_prompt": {},
    "quality": {},
    "reliance": {
        "callbacks.reliance.classes=N": "fewer classes whose culprits are removed",
        "callbacks.reliance.draws=N": "fewer random image sets",
    },
    "spliced_accuracy": {},
    "steering": {"callbacks.steering.sources.counterfactuals.per_value=N": "fewer pairs"},
    "truth": {"callbacks.truth.ks=[]": "no probes"},
}
"""Callback of a validation pass -> settings that save memory, beside those that all callbacks have."""


def place_of(error: BaseException) -> MemoryPlace:
    """Return the place at which an error was raised, by the innermost of its frames that is listed here."""
    for name in reversed([*_frames(error)]):
        path = name.split(".")
        if path[0] == "callbacks" and path[1] in OF_CALLBACKS:
            return callback_place(path[1])
        for end in range(len(path), 1, -1):
            if (place := PLACES.get(".".join(path[:end]))) is not None:
                return place
    return ANYWHERE


def callback_place(name: str) -> MemoryPlace:
    """Return the place of a callback of the validation pass."""
    without = {f"~callbacks.{name}": "leaves it out"}
    return MemoryPlace(
        f"the callback {name} was at work", {**OF_CALLBACKS[name], **SMALLER_PASSES, **without}
    )


def _frames(error: BaseException) -> Iterator[str]:
    """Yield `package.module.function` of each frame of an error, the innermost last."""
    traceback = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        yield f"{frame.f_globals.get('__name__', '')}.{frame.f_code.co_name}"
        traceback = traceback.tb_next


def listed(settings: Settings) -> str:
    """Return the settings that help as text, one per line.

    Example:
        >>> print(listed({"data.n_probe=N": "fewer probe images", "-x": "nothing"}))
        What helps:
          data.n_probe=N  fewer probe images
          -x              nothing
    """
    width = max(map(len, settings))
    return "\n".join(["What helps:", *(f"  {name:{width}}  {does}" for name, does in settings.items())])
