"""When a step may be replayed, and when its recording is to be made or checked again: the one hook behind which replay stands.

What a step computes with ops, with gradients and with draws from Streams is recorded.  Everything else that Python does is frozen as it
was: branches, numbers that are read from somewhere, arithmetic on raw arrays.  So a recording is used only where that cannot matter:

- Every class that takes part says that it computes with ops, from its arguments and attributes alone: classes of the library do, a
  stranger's by `replayable = True` in its body.  Without that, every step runs as it is written, and `why_eager` says so.
- Attributes of modules, the arrays of parameters, backend and precision are compared before every step: when one has changed, the
  recording is made again.
- The second step of a kind runs both ways, from the same state of all streams and running moments, and unless every bit of the results
  agrees, that kind stays eager.  `doubt()` asks for that again: a Trainer does at every epoch.  A recording that has been used and then
  differs has done harm, and that is an error.

    program = replay.ready(key, arrays)
    if program is None:
        with replay.watch(key, arrays) as step:  # eager; recorded or checked by the way
            step.results = work(*step.arrays)
    results = step.results if program is None else program(arrays)

The arrays that a replay returns belong to the recording and are overwritten by the next one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..backend import xp
from ..engine import Tensor, gradients
from ..errors import UsageError
from .guard import Guard, why_not
from .program import Program

LARGEST = 8  # kinds of steps that are recorded: each holds the memory of a whole step
OFTEN = 1000  # calls after which `captured`, which knows of no epochs, checks again


class Step:
    """What `watch` gives and takes."""

    def __init__(self, arrays: Sequence[np.ndarray]):
        self.arrays = arrays
        self.results: Any = None  # nested tuples, lists and dictionaries of Tensors and arrays


class Replay:
    """The recordings of a training's steps, by key.

    parts    the objective and the modules that take part: their classes are asked, and their attributes watched
    """

    def __init__(self, parts: Iterable[Any] = (), params: Sequence[Tensor] = ()):
        self.parts, self.params = list(parts), list(params)
        self.programs: dict[Any, Program | None] = {}  # None: eager
        self.differs = ""
        self.look()

    def look(self) -> None:
        """Take the parts as they are now."""
        self.refused = why_not(self.parts)
        self.guard = Guard(self.parts, self.params)
        self.programs.clear()

    @property
    def why_eager(self) -> str:
        """A sentence once steps could not be recorded, else empty."""
        return self.refused or self.differs

    def ready(self, key: Any, arrays: Sequence[np.ndarray]) -> Program | None:
        """The recording to use for these arrays, if there is one that can be trusted."""
        if self.refused:
            return None
        if not self.guard.holds():
            self.look()
        program = self.programs.get(_kind(key, arrays))
        return program if program is not None and program.verified else None

    def doubt(self) -> None:
        """Check every recording at its next use."""
        for program in self.programs.values():
            if program is not None:
                program.verified = False

    @contextmanager
    def watch(self, key: Any, arrays: Sequence[np.ndarray]) -> Iterator[Step]:
        """A step that runs as it is written: recorded if it is the first of its kind, checked against the recording if the second."""
        kind = _kind(key, arrays)
        program = self.programs.get(kind)
        if self.refused or (program is None and (kind in self.programs or len(self.programs) >= LARGEST)):
            yield Step(arrays)
        elif any(xp(a) is not np for a in (*arrays, *self.guard.values())):
            self.differs = "arrays on a GPU are not recorded here: a Trainer makes a CUDA graph of its step"
            yield Step(arrays)
        elif program is None:
            program = Program(arrays)
            step = Step(program.inputs)
            with program.recording():
                yield step
                program.returns(step.results)
            self.programs[kind] = program
        else:
            step, before = Step(arrays), program.state()
            yield step
            if not program.agrees(step.results, arrays, before):
                self.programs[kind] = None
                shapes = ", ".join(str(a.shape) for a in arrays)
                self.differs = f"for arrays of shapes {shapes} a replay differs from the step: it works on something that is not recorded"
                if program.used:
                    raise UsageError(
                        f"{self.differs}, and {program.used} steps have been replayed since the last check; pass what changes as an "
                        "argument, or do without replay (replayable = True in a class, or captured)"
                    )


def _kind(key: Any, arrays: Sequence[np.ndarray]) -> Any:
    return key, tuple([(a.shape, a.dtype) for a in arrays])


Results = Any  # what a function returned: a Tensor, or a tuple of Tensors of which the first is the loss


def captured(function: Callable[..., Results], params: Sequence[Tensor]) -> "Captured":
    """step(*arrays) -> (function(*arrays), [dL/dp for p in params]), replayed from a recording, for a training loop of your own.

        step = captured(lambda x: elbo(model, x, noise), params)
        terms, gradients = step(x)          # eager, and recorded; from the third call of a shape on, replayed
        optimizer.step(gradients)

    function(*arrays) returns the loss L, or a tuple (also a named one, like Terms) of Tensors that begins with it.  Whoever captures a
    function says that it computes with ops from its arguments alone: what else it reads is frozen, which every thousandth call checks.
    """
    return Captured(function, params)


class Captured:
    """See `captured`.  `why_eager` is a sentence once a shape could not be captured, else empty."""

    def __init__(self, function: Callable[..., Results], params: Sequence[Tensor]):
        self.function, self.params, self.calls = function, list(params), 0
        self.replay = Replay(params=self.params)

    why_eager = property(lambda self: self.replay.why_eager)

    def __call__(self, *arrays: np.ndarray) -> tuple[Results, list[np.ndarray]]:
        self.calls += 1
        if self.calls % OFTEN == 0:
            self.replay.doubt()
        program = self.replay.ready(None, arrays)
        if program is not None:
            return program(arrays)
        with self.replay.watch(None, arrays) as step:
            step.results = self.eager(*step.arrays)
        return step.results

    def eager(self, *arrays: np.ndarray) -> tuple[Results, list[np.ndarray]]:
        """The step as it is written."""
        results = self.function(*arrays)
        return results, gradients(results[0] if isinstance(results, tuple) else results, self.params)
