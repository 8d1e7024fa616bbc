"""A training step recorded once and replayed: the same kernels on the same arrays, without the Python between them.

    step = captured(lambda x: elbo(model, x, noise), params)
    terms, gradients = step(x)          # eager, and recorded; from the third call of a shape on, replayed
    optimizer.step(gradients)

What a step computes with ops, with gradients and with draws from Streams is recorded.  Everything else that Python does is frozen as
it was: branches, numbers such as a beta that changes, arithmetic on raw arrays, side effects such as a BatchNorm's running moments.
So a recording is not simply verified: the second call of a shape runs both ways from the same state of all streams, and unless every
bit of the results and of the gradients agrees, that shape stays eager, and `why_eager` says so.  The arrays that a replay returns
belong to the recording and are overwritten by the next one.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..backend import xp
from ..engine import Tensor, gradients, runner, stop_gradient
from ..kernels.cpu.jit import recorded, repeat
from ..random import Stream, on_draw
from .memory import Ledger, Place

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
            made = Recording(self.function, self.params, arrays)
            first = made.record()
            self.recordings[signature] = made
            return first
        recording = self.recordings.get(signature)
        if recording is None:
            return self.eager(*arrays)
        return recording.replay(arrays) if recording.verified else self.judge(recording, signature, arrays)

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
        recording.verified = same and [stream.state() for stream in recording.streams] == after
        if not recording.verified:
            self.recordings[signature] = None
            shapes = ", ".join(str(a.shape) for a in arrays)
            self.why_eager = f"for arrays of shapes {shapes} a replay differs from the step: it works on something that is not recorded"
            for stream, state in zip(recording.streams, after, strict=True):
                stream.set_state(state)
        return results, parts


class Recording:
    """The calls of one step, noted while it runs.  The arrays that they work on are laid out afresh for the replays: see memory.py."""

    def __init__(self, function: Callable[..., Results], params: Sequence[Tensor], arrays: Sequence[np.ndarray]):
        self.function, self.params = function, params
        self.calls: list[tuple[Callable, Any]] = []  # with Places for arrays
        self.program: list[tuple[Callable, tuple]] = []  # the calls, with arrays; made at the first replay
        self.inputs = [a.copy() for a in arrays]
        self.streams: list[Stream] = []
        self.ledger = Ledger()
        self.ledger.keep([*self.inputs, *(p.data for p in params)])
        self.verified = False

    def record(self) -> tuple[Results, list[np.ndarray]]:
        """Run the step on the inputs, and note its calls."""
        told, run = on_draw.set(self.draw), runner.set(self.run)
        try:
            with recorded() as self.kernels:
                results = self.function(*self.inputs)
                parts = gradients(results[0] if isinstance(results, tuple) else results, self.params)
        finally:
            on_draw.reset(told)
            runner.reset(run)
        del self.kernels
        self.returned = self.noted((_map(lambda t: t.data, results), parts))
        return _map(stop_gradient, results), parts

    def replay(self, arrays: Sequence[np.ndarray]) -> tuple[Results, list[np.ndarray]]:
        if not self.program:
            self.allocate()
        for own, a in zip(self.inputs, arrays, strict=True):
            own[...] = a
        repeat(self.program)
        return self.results, self.gradients

    def allocate(self) -> None:
        """Lay the arrays out, in memory that the step itself has given back by now."""
        array = self.ledger.allocate(_leaves(self.returned, Place))
        self.program = [(call, _map(array, arguments)) for call, arguments in self.calls]
        results, self.gradients = _map(array, self.returned)
        self.results = _map(stop_gradient, results)
        del self.calls, self.ledger

    def note(self, call: Callable, *arguments: Any) -> None:
        self.calls.append((call, self.noted(arguments)))

    def noted(self, tree: Any) -> Any:
        """Nested tuples and lists with Places for the arrays of this and earlier calls."""
        return _map(lambda leaf: self.ledger.place(leaf, len(self.calls)) if isinstance(leaf, np.ndarray) else leaf, tree)

    def run(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Run a forward or a vjp, and note how to run it again."""
        self.kernels.clear()
        given = _leaves(arguments)
        self.ledger.keep(given)
        result = _with_arrays(function(*arguments, **options))
        if self.kernels and hasattr(getattr(function, "func", function), "kernels_only") and all(map(_in_rows, given)):
            for kernel, inputs in self.kernels:
                self.note(kernel, *inputs)
        else:
            new = [(path, a) for path, a in _paths(result) if not any(np.may_share_memory(a, b) for b in given)]
            if new:  # else it made nothing but views
                self.note(_again, function, arguments, options, new)
        self.kernels.clear()
        return result

    def draw(self, stream: Stream, method: str, like: Any, numbers: np.ndarray) -> None:
        if stream not in self.streams:
            self.streams.append(stream)
        self.note(_draw, getattr(stream, method), numbers.shape, like, numbers)


def _draw(method: Callable, shape: tuple[int, ...], like: Any, numbers: np.ndarray) -> None:
    numbers[...] = method(shape, like)


def _again(function: Callable, arguments: tuple, options: dict, new: list[tuple[tuple[int, ...], np.ndarray]]) -> None:
    result = function(*arguments, **options)
    for path, own in new:
        a = result
        for branch in path:
            a = a[branch]
        own[...] = a


def _in_rows(a: np.ndarray) -> bool:
    """Whether kernels take it as it lies: what is strewn otherwise NumPy copies first, and a recording of the kernels would miss that."""
    return a.flags.c_contiguous or (a.ndim == 2 and a.strides[1] == a.itemsize)


def _paths(tree: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """The arrays in nested tuples and lists, and the way to each: tree[path[0]][path[1]]..."""
    if isinstance(tree, np.ndarray):
        yield path, tree
    elif isinstance(tree, tuple | list):
        for i, branch in enumerate(tree):
            yield from _paths(branch, (*path, i))


def _leaves(tree: Any, kind: type = np.ndarray) -> list[Any]:
    """The arrays, or things of another kind, in nested tuples and lists; of Tensors their arrays."""
    leaves: list[Any] = []
    _map(lambda leaf: leaves.append(leaf.data if isinstance(leaf, Tensor) else leaf), tree)
    return [leaf for leaf in leaves if isinstance(leaf, kind)]


def _with_arrays(tree: Any) -> Any:
    """NumPy's scalars, which a replay could not write to, as 0-d arrays."""
    return _map(lambda leaf: np.array(leaf) if isinstance(leaf, np.generic) else leaf, tree)


def _map(function: Callable, tree: Any) -> Any:
    """Nested tuples (named or not) and lists of function(leaf)."""
    if isinstance(tree, list):
        return [_map(function, branch) for branch in tree]
    if isinstance(tree, tuple):
        branches = [_map(function, branch) for branch in tree]
        return type(tree)(*branches) if hasattr(tree, "_fields") else tuple(branches)
    return function(tree)
