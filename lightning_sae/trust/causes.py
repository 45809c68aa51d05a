"""What goes wrong in a target of a configuration, without what Hydra wraps around it."""

import sys

INSTANTIATION = "hydra.errors.InstantiationException"


def is_a(error: BaseException | None, *kinds: str) -> bool:
    """Return whether an error is of a class that is named; none is of a module that nothing has imported."""
    parts = [kind.rpartition(".") for kind in kinds]
    return any(isinstance(error, getattr(sys.modules.get(module), name, ())) for module, _, name in parts)


def cause_of(error: BaseException) -> BaseException:
    """Return what went wrong below the frames that Hydra's `instantiate` wraps around it."""
    while is_a(error, INSTANTIATION) and error.__cause__ is not None:
        error = error.__cause__
    return error
