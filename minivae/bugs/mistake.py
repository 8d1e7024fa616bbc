"""What stands in the list of bugs: a mistake that somebody made, the right thing beside it, and the check that tells them apart."""

import functools
import inspect
import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Finding:
    """What a check measured: `size`, 0 for a right implementation, and `allowed`, what rounding or chance may make of 0."""

    size: float
    allowed: float
    what: str  # a sentence about `size`

    @property
    def ok(self) -> bool:
        return self.size <= self.allowed  # a NaN is not ok


class Mistake:
    """A mistake.  The docstring of a subclass says what it is, in one line.

    bug, fix            the same function, wrong and right; short enough to be compared by eye
    check(f)            the Finding for either of them; it knows nothing of which one it was given
    training(f)         what a short training with it comes to: {figure: number}, of which the first is worse the larger it is
    """

    name: ClassVar[str]
    seen: ClassVar[str]  # where
    caught_by: ClassVar[str]  # the kind of check, in a few words
    harm: ClassVar[str]  # what the training shows,
    least: ClassVar[float]  # and by how much at least the first figure is worse
    bug: ClassVar[Any]
    fix: ClassVar[Any]

    @staticmethod
    def check(f: Callable[..., Any]) -> Finding:
        raise NotImplementedError

    @staticmethod
    def training(f: Callable[..., Any]) -> dict[str, float]:
        raise NotImplementedError

    @classmethod
    @functools.cache
    def effect(cls) -> tuple[dict[str, float], dict[str, float]]:
        """The training with the bug and the training with the fix."""
        return cls.training(cls.bug), cls.training(cls.fix)

    @classmethod
    def says(cls) -> str:
        """The mistake in one line."""
        return str(inspect.getdoc(cls))

    @staticmethod
    def source(function: Callable[..., Any]) -> str:
        """The lines of bug or fix."""
        return textwrap.dedent(inspect.getsource(function)).removeprefix("@staticmethod\n").rstrip()


def relative(found: float, right: float) -> float:
    """|found - right| / max(|right|, 1), infinite for what is not a number."""
    error = abs(found - right) / max(abs(right), 1.0)
    return error if math.isfinite(error) else math.inf
