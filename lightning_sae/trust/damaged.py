"""Errors of the readers of tensors, for which a file is damaged or of another format."""

import pickle
import struct
import zipfile

from safetensors import SafetensorError

UNREADABLE = (
    *(SafetensorError, pickle.UnpicklingError, struct.error, zipfile.BadZipFile),
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError),
    *(RuntimeError, TypeError, ValueError),
)
"""Raised by `torch.load`, NumPy and safetensors, which may take a text for a pickle and run into anything."""
