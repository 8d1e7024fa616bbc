"""What stands between the ops and numba, which takes longer to load than all the rest: a module is loaded when it is first used."""

import importlib
from collections.abc import Callable
from typing import Any


class Lazy:
    """The module of that name, once something in it is asked for."""

    def __init__(self, name: str):
        self.__name__ = name

    def __getattr__(self, attribute: str) -> Any:  # asked only for what is not here yet
        value = getattr(importlib.import_module(self.__name__), attribute)
        setattr(self, attribute, value)
        return value


def kernels_only(function: Callable) -> Callable:
    """Declares of a function on contiguous arrays that all of its work is done in kernels: around them it makes empty arrays and views."""
    function.kernels_only = "contiguous"  # type: ignore[attr-defined]
    return function


def kernels_only_rows(function: Callable) -> Callable:
    """The same of one whose matrices need only have contiguous rows."""
    function.kernels_only = "rows"  # type: ignore[attr-defined]
    return function
