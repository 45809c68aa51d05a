"""The variants of sparse autoencoders, a file each; every file here is imported, and so known by name."""

from importlib import import_module
from pkgutil import iter_modules

for _file in iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")
