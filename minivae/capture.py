"""A training step recorded once and replayed: the same kernels on the same arrays, without the Python between them.

    step = captured(lambda x: elbo(model, x, noise), params)
    terms, gradients = step(x)          # eager, and recorded; from the third call of a shape on, replayed
    optimizer.step(gradients)

What a step computes with ops, with gradients and with draws from Streams is recorded.  Everything else that Python does is frozen as
it was: branches, numbers such as a beta that changes, arithmetic on raw arrays, side effects such as a BatchNorm's running moments.
So a recording is not simply believed: the second call of a shape runs both ways from the same state of all streams, and unless every
bit of the results and of the gradients agrees, that shape stays eager, and `why_eager` says so.  The arrays that a replay returns
belong to the recording and are overwritten by the next one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .backend import xp
from .engine import Tensor, constant, gradients, runner
from .kernels.cpu.jit import recorded, repeat
from .random import Stream, witness

LARGEST = 8  # shapes that are recorded: each holds the memory of a whole step
Results = Any  # what a function returned: a Tensor, or a tuple of Tensors of which the first is the loss


def captured(function: Callable[..., Results], params: Sequence[Tensor]) -> "Captured":
    """step(*arrays) -> (function(*arrays), [dL/dp for p in params]), replayed from a recording where that is sure to be the same.

    function(*arrays) returns the loss L, or a tuple (also a named one, like Terms) of Tensors that begins with it.
    """
    return Captured(function, params)


class Captured:
    """See `captured`.  `why_eager` is a sentence once a shape could not be captured, else empty."""

    def __init__(self, function: Callable[..., Results], params: Sequence[Tensor]):
        self.function, self.params = function, list(params)
        self.recordings: dict[Any, Recording | None] = {}  # by the shapes and dtypes of the arrays; None: eager
        self.why_eager = ""

    def __call__(self, *arrays: np.ndarray) -> tuple[Results, list[np.ndarray]]:
        if xp(self.params[0].data) is not np:
            self.why_eager = "arrays on a GPU are not recorded here: a Trainer makes a CUDA graph of its step"
            return self.eager(*arrays)
        signature = tuple([(a.shape, a.dtype) for a in arrays])
        if signature not in self.recordings and len(self.recordings) < LARGEST:
            made = self.recordings[signature] = Recording(self.function, self.params, arrays)
            return made.results, made.gradients
        recording = self.recordings.get(signature)
        if recording is None:
            return self.eager(*arrays)
        return recording.replay(arrays) if recording.believed else self.judge(recording, signature, arrays)

    def eager(self, *arrays: np.ndarray) -> tuple[Results, list[np.ndarray]]:
        results = self.function(*arrays)
        return results, gradients(results[0] if isinstance(results, tuple) else results, self.params)

    def judge(self, recording: "Recording", signature: Any, arrays: Sequence[np.ndarray]) -> tuple[Results, list[np.ndarray]]:
        """Run the step, and its replay from the same state of the streams; believe the recording if all bits agree."""
        before = [stream.state() for stream in recording.streams]
        results, parts = self.eager(*arrays)
        after = [stream.state() for stream in recording.streams]
        for stream, state in zip(recording.streams, before, strict=True):
            stream.set_state(state)
        again = recording.replay(arrays)
        pairs = zip(_leaves((results, parts)), _leaves(again), strict=True)
        same = all(a.tobytes() == b.tobytes() for a, b in pairs)
        recording.believed = same and [stream.state() for stream in recording.streams] == after
        if not recording.believed:
            self.recordings[signature] = None
            shapes = ", ".join(str(a.shape) for a in arrays)
            self.why_eager = f"for arrays of shapes {shapes} a replay differs from the step: it works on something that is not recorded"
            for stream, state in zip(recording.streams, after, strict=True):
                stream.set_state(state)
        return results, parts


class Recording:
    """The calls of one step, made while it runs, and the arrays that they work on."""

    def __init__(self, function: Callable[..., Results], params: Sequence[Tensor], arrays: Sequence[np.ndarray]):
        self.program: list[tuple[Callable, tuple]] = []
        self.inputs = [a.copy() for a in arrays]
        self.streams: list[Stream] = []
        self.believed = False
        told, run = witness.set(self.draw), runner.set(self.run)
        try:
            with recorded() as self.kernels:
                results = function(*self.inputs)
                self.gradients = gradients(results[0] if isinstance(results, tuple) else results, params)
        finally:
            witness.reset(told)
            runner.reset(run)
        del self.kernels
        self.results = _map(constant, results)  # without the graph

    def replay(self, arrays: Sequence[np.ndarray]) -> tuple[Results, list[np.ndarray]]:
        for own, a in zip(self.inputs, arrays, strict=True):
            own[...] = a
        repeat(self.program)
        return self.results, self.gradients

    def run(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Run a forward or a vjp, and record how to run it again."""
        self.kernels.clear()
        result = _with_arrays(function(*arguments, **options))
        if self.kernels and hasattr(getattr(function, "func", function), "kernels_only"):
            self.program += self.kernels
        else:
            given = _leaves(arguments)
            new = [not any(np.may_share_memory(a, b) for b in given) for a in _leaves(result)]
            if any(new):  # else it made nothing but views
                self.program.append((_again, (function, arguments, options, _leaves(result), new)))
        return result

    def draw(self, stream: Stream, method: str, like: Any, numbers: np.ndarray) -> None:
        if stream not in self.streams:
            self.streams.append(stream)
        self.program.append((_draw, (getattr(stream, method), numbers.shape, like, numbers)))


def _draw(method: Callable, shape: tuple[int, ...], like: Any, numbers: np.ndarray) -> None:
    numbers[...] = method(shape, like)


def _again(function: Callable, arguments: tuple, options: dict, results: list[np.ndarray], new: list[bool]) -> None:
    for own, a, is_new in zip(results, _leaves(_with_arrays(function(*arguments, **options))), new, strict=True):
        if is_new:
            own[...] = a


def _leaves(tree: Any) -> list[np.ndarray]:
    """The arrays in nested tuples and lists, those of Tensors too."""
    if isinstance(tree, np.ndarray):
        return [tree]
    if isinstance(tree, Tensor):
        return [tree.data]
    return [leaf for branch in tree for leaf in _leaves(branch)] if isinstance(tree, tuple | list) else []


def _with_arrays(tree: Any) -> Any:
    """NumPy's scalars, which a replay could not write to, as 0-d arrays."""
    return np.array(tree) if isinstance(tree, np.generic) else _map(_with_arrays, tree) if isinstance(tree, tuple | list) else tree


def _map(function: Callable, tree: Any) -> Any:
    """function of every branch of a tuple (named or not) or list, or of the one thing that it is."""
    if isinstance(tree, list):
        return [function(branch) for branch in tree]
    if isinstance(tree, tuple):
        branches = [function(branch) for branch in tree]
        return type(tree)(*branches) if hasattr(tree, "_fields") else tuple(branches)
    return function(tree)
