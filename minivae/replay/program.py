"""A recording: the calls of one step, noted while it runs, and their repetition on arrays that lie where they lay."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..engine import Tensor, runner, stop_gradient
from ..kernels.cpu import watch
from ..random import Stream, on_draw
from .memory import Ledger, Place


class Program:
    """The calls of one step.  The arrays that they work on are laid out afresh for the replays: see memory.py.

    inputs    copies of the arrays that the step is given: it must run on these while it is recorded
    used      replays since the last check
    """

    def __init__(self, arrays: Sequence[np.ndarray]):
        self.calls: list[tuple[Callable, Any]] = []  # with Places for arrays
        self.program: list[tuple[Callable, tuple]] = []  # the calls, with arrays; made at the first replay
        self.fast: list[tuple[Callable, tuple]] = []  # the same, as machine code
        self.inputs = [np.array(a) for a in arrays]
        self.streams: list[Stream] = []
        self.moved: list[np.ndarray] = []  # arrays that lived before and that the step changes: running moments
        self.ledger = Ledger()
        self.ledger.keep(self.inputs)
        self.verified, self.used = False, 0

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Inside the block, this thread's ops, gradients and draws are noted."""
        told, run = on_draw.set(self.draw), runner.set(self.run)
        try:
            with watch.recorded() as self.kernels:
                yield
        finally:
            on_draw.reset(told)
            runner.reset(run)
            del self.kernels

    def returns(self, results: Any) -> None:
        """The step's results, at the end of the block."""
        self.returned = self.noted(_map(lambda leaf: leaf.data if isinstance(leaf, Tensor) else leaf, results))
        self.tensors = _map(lambda leaf: isinstance(leaf, Tensor), results)

    def __call__(self, arrays: Sequence[np.ndarray]) -> Any:
        """Repeat the step on other arrays of the same shapes.  Returns its results."""
        if not self.program:
            self.allocate()
        for own, a in zip(self.inputs, arrays, strict=True):
            own[...] = a
        watch.repeat(self.program, self.fast)
        self.used += 1
        return self.results

    def state(self) -> list[Any]:
        """What the step moves on: streams, and arrays that lived before."""
        return [*(stream.state() for stream in self.streams), *(a.copy() for a in self.moved)]

    def set_state(self, state: Sequence[Any]) -> None:
        for stream, saved in zip(self.streams, state, strict=False):
            stream.set_state(saved)
        for a, saved in zip(self.moved, state[len(self.streams) :], strict=True):
            a[...] = saved

    def agrees(self, results: Any, arrays: Sequence[np.ndarray], before: Sequence[Any]) -> bool:
        """Whether a replay from the state `before` gives these results of a step to the bit, and leaves the state as the step left it."""
        after = self.state()
        self.set_state(before)
        used = self.used
        again = self(arrays)
        pairs = zip(leaves(results), leaves(again), strict=True)
        same = all(a.tobytes() == b.tobytes() for a, b in pairs)
        self.verified = same and all(map(_equal, self.state(), after))
        self.used = 0 if self.verified else used
        if not self.verified:
            self.set_state(after)
        return self.verified

    def allocate(self) -> None:
        """Lay the arrays out, in memory that the step itself has given back by now."""
        wanted = leaves(self.returned, Place)
        array = self.ledger.allocate(wanted)
        self.program = [(call, _map(array, arguments)) for call, arguments in needed(self.calls, wanted)]
        self.fast = watch.prepared(self.program)
        self.results = _map(lambda place, tensor: stop_gradient(array(place)) if tensor else array(place), self.returned, self.tensors)
        del self.calls, self.ledger, self.returned, self.tensors

    def note(self, call: Callable, *arguments: Any) -> None:
        self.calls.append((call, self.noted(arguments)))

    def noted(self, tree: Any) -> Any:
        """Nested tuples and lists with Places for the arrays of this and earlier calls."""
        return _map(lambda leaf: self.ledger.place(leaf, len(self.calls)) if isinstance(leaf, np.ndarray) else leaf, tree)

    def run(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Run a forward or a vjp, and note how to run it again; one that is composed of others notes those."""
        if getattr(function, "composite", False):
            return function(*arguments, **options)
        self.kernels.clear()
        given = leaves(arguments)
        self.ledger.keep(given)
        result = _with_arrays(function(*arguments, **options))
        if getattr(function, "effect", False):  # it changes its arguments: see engine.effect
            self.note(function, *arguments)
            self.moved += [a for a in given if isinstance(self.noted(a), np.ndarray) and not any(a is b for b in self.moved)]
        elif (
            self.kernels
            and watch.ELSEWHERE not in self.kernels
            and _as_they_lie(getattr(getattr(function, "func", function), "kernels_only", ""), given)
        ):
            for kernel, inputs in self.kernels:
                self.note(kernel, *inputs)
        else:
            new = [(path, a) for path, a in _paths(result) if not any(np.may_share_memory(a, b) for b in given)]
            if len(new) == 1 and hasattr(function, "ufunc"):
                self.note(function.ufunc, *arguments, new[0][1])
            elif new:  # else it made nothing but views
                self.note(_again, function, arguments, options, new)
        self.kernels.clear()
        return result

    def draw(self, stream: Stream, method: str, like: Any, numbers: np.ndarray) -> None:
        if stream not in self.streams:
            self.streams.append(stream)
        self.note(_draw, getattr(stream, method), numbers.shape, like, numbers)


def _equal(a: Any, b: Any) -> bool:
    return a.tobytes() == b.tobytes() if isinstance(a, np.ndarray) else a == b


def _draw(method: Callable, shape: tuple[int, ...], like: Any, numbers: np.ndarray) -> None:
    numbers[...] = method(shape, like)


def _again(function: Callable, arguments: tuple, options: dict, new: list[tuple[tuple[int, ...], np.ndarray]]) -> None:
    result = function(*arguments, **options)
    for path, own in new:
        a = result
        for branch in path:
            a = a[branch]
        own[...] = a


def _as_they_lie(kind: str, arrays: Sequence[np.ndarray]) -> bool:
    """Whether kernels take the arrays as they lie: what is strewn NumPy copies first, and a recording of the kernels would miss that."""
    rows = kind == "rows"
    return kind != "" and all(a.flags.c_contiguous or (rows and a.ndim == 2 and a.strides[1] == a.itemsize) for a in arrays)


def _paths(tree: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """The arrays in nested tuples and lists, and the way to each: tree[path[0]][path[1]]..."""
    if isinstance(tree, np.ndarray):
        yield path, tree
    elif isinstance(tree, tuple | list):
        for i, branch in enumerate(tree):
            yield from _paths(branch, (*path, i))


def leaves(tree: Any, kind: type = np.ndarray) -> list[Any]:
    """The arrays, or things of another kind, in nested tuples, lists and dictionaries; of Tensors their arrays."""
    found: list[Any] = []
    _map(lambda leaf: found.append(leaf.data if isinstance(leaf, Tensor) else leaf), tree)
    return [leaf for leaf in found if isinstance(leaf, kind)]


def _with_arrays(tree: Any) -> Any:
    """NumPy's scalars, which a replay could not write to, as 0-d arrays."""
    return _map(lambda leaf: np.array(leaf) if isinstance(leaf, np.generic) else leaf, tree)


def _map(function: Callable, tree: Any, *others: Any) -> Any:
    """Nested tuples (named or not), lists and dictionaries of function(leaf), or of function(leaf, its like in the other tree)."""
    if isinstance(tree, list):
        return [_map(function, *branches) for branches in zip(tree, *others, strict=True)]
    if isinstance(tree, tuple):
        made = [_map(function, *branches) for branches in zip(tree, *others, strict=True)]
        return type(tree)(*made) if hasattr(tree, "_fields") else tuple(made)
    if isinstance(tree, dict):
        return {key: _map(function, branch, *(other[key] for other in others)) for key, branch in tree.items()}
    return function(tree, *others)


def needed(calls: Sequence[tuple[Callable, Any]], wanted: Sequence[Place]) -> list[tuple[Callable, Any]]:
    """The calls without those whose results nobody reads: numbers that were made to be reported, and are not asked for."""
    live, kept = {place.buffer for place in wanted}, []
    for call, arguments in reversed(calls):
        new = leaves(arguments[3], Place) if call is _again else [arguments[-1]] if isinstance(call, np.ufunc) else []
        if new and not live & {place.buffer for place in new}:
            continue
        live |= {place.buffer for place in leaves(arguments, Place)}
        kept.append((call, arguments))
    return kept[::-1]
