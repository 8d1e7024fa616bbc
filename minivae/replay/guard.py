"""What a recording takes for granted of the Python around it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..backend import Array, cpu_backend, precision
from ..engine import Op, Tensor
from ..errors import MinivaeError
from ..random import Stream

PLAIN = (type(None), bool, int, float, complex, str, bytes, Stream, Op)


def attributes(part: Any) -> dict[str, Any]:
    """What an object keeps: its fields are all there is."""
    return getattr(part, "__dict__", {})


def objects(parts: Iterable[Any]) -> Iterator[Any]:
    """Everything that the parts are made of: attributes, and what lists, tuples and dictionaries hold; each object once."""
    todo, seen = list(parts), set()
    while todo:
        part = todo.pop()
        if id(part) in seen or isinstance(part, PLAIN) or (hasattr(part, "dtype") and not isinstance(part, Tensor)):
            continue
        seen.add(id(part))
        yield part
        if isinstance(part, dict):
            todo += part.values()
        elif isinstance(part, list | tuple | set | frozenset):
            todo += part
        elif not isinstance(part, Tensor | type) and not callable_only(part):
            todo += attributes(part).values()


def callable_only(part: Any) -> bool:
    """A function, a method, a partial: what it reads cannot be seen."""
    return callable(part) and not hasattr(type(part), "forward") and not hasattr(type(part), "losses")


def why_not(parts: Iterable[Any]) -> str:
    """Why steps of these parts cannot be recorded, as a sentence; empty if they can."""
    for part in objects(parts):
        if isinstance(part, Tensor | dict | list | tuple | set | frozenset | type):
            continue
        kind = type(part)
        if callable_only(part):
            if getattr(part, "replayable", False):
                continue
            if (getattr(part, "__module__", None) or "").partition(".")[0] != "minivae" or getattr(part, "__closure__", None):
                return f"{getattr(part, '__qualname__', kind.__name__)} is a function, and what a function reads cannot be seen"
        elif kind.__module__.partition(".")[0] != "minivae" and not vars(kind).get("replayable"):
            return f"{kind.__name__} does not say that it computes with ops alone; replayable = True in its body does"
    return ""


class Guard:
    """The attributes of modules, the arrays of parameters, the backend and the precision, as they are now."""

    def __init__(self, parts: Sequence[Any], params: Sequence[Tensor] = ()):
        every = list(objects((*parts, *params)))
        self.tensors = [(t, t.data) for t in every if isinstance(t, Tensor)]
        kept = [part if isinstance(part, dict | list) else attributes(part) for part in every if not isinstance(part, Tensor | type)]
        self.seen: list[tuple[Any, Any]] = [(a, a.copy()) for a in kept]
        self.settings = cpu_backend(), precision()

    def values(self) -> list[Array]:
        """The arrays of all tensors."""
        return [a for _, a in self.tensors]

    def holds(self) -> bool:
        """Whether all is as it was."""
        try:
            for t, a in self.tensors:
                if t.data is not a:
                    return False
            for now, then in self.seen:
                if now != then:
                    return False
        except (ValueError, MinivaeError):  # an array or a tensor in the place of another has no one answer to ==
            return False
        return self.settings == (cpu_backend(), precision())
