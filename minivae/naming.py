"""A class by name: what a checkpoint keeps of a stranger's class, and how the class is found again."""

import importlib
from typing import Any

from .errors import UsageError


def path_of(kind: type) -> str:
    """ "package.module:Name", by which `class_at` finds the class again."""
    return f"{kind.__module__}:{kind.__qualname__}"


def class_at(path: str, instead: str, base: type = object) -> Any:
    """The class that `path_of` named; instead    what to do where it cannot be imported, the end of a sentence.

    base    what it must derive from: a file names it, and no file may have anything else called, such as os.system"""
    module, _, name = path.partition(":")
    try:
        if module == "__main__" or "<locals>" in name:
            raise ImportError("it was defined in a script, a notebook or a function, which nobody can import")
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"the class {path} cannot be imported ({error}); {instead}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UsageError(f"{path} is no class that derives from {base.__name__}; {instead}")
    return found
