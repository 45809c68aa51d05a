"""The errors that a configuration's targets raise, without the errors that Hydra wraps around them."""

import sys

INSTANTIATION = "hydra.errors.InstantiationException"


def is_a(error: BaseException | None, *kinds: str) -> bool:
    """Return whether an error is of one of the named classes, without importing their modules."""
    parts = [kind.rpartition(".") for kind in kinds]
    return any(isinstance(error, getattr(sys.modules.get(module), name, ())) for module, _, name in parts)


def cause_of(error: BaseException) -> BaseException:
    """Return the error below the one that Hydra's `instantiate` wraps around it."""
    while is_a(error, INSTANTIATION) and error.__cause__ is not None:
        error = error.__cause__
    return error
