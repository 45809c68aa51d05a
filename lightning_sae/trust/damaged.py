"""Errors by which the readers of tensors say that a file is damaged or of another format."""

import pickle
import struct
import zipfile

from safetensors import SafetensorError

UNREADABLE = (
    *(SafetensorError, pickle.UnpicklingError, struct.error, zipfile.BadZipFile),
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError),
    *(RuntimeError, TypeError, ValueError),
)
"""Errors of `torch.load`, NumPy and safetensors; they may take a text for a pickle and raise any of these."""
