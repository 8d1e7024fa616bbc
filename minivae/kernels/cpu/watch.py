"""Who looks on while kernels are called: a recorder, that repeats the calls later, and a clock.  Unwatched, a call costs nothing more."""

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from .jit import kernels, parallel_lock

Call = tuple[Callable, tuple]
Watcher = Callable[[Any, Callable, tuple], Any]  # (kernel, the plain call, arguments) -> what the kernel returns
_watchers: list[tuple[int, Watcher]] = []  # with the thread that each watches
_recorders: list[tuple[int, list[Call]]] = []
_lock = threading.Lock()


def elsewhere() -> None:
    """Stands among recorded calls for work that was none of a kernel's."""


ELSEWHERE: Call = (elsewhere, ())


class TimedCall(NamedTuple):
    function: Callable  # as it was written
    arguments: tuple
    seconds: float


@contextmanager
def _watching(watcher: Watcher) -> Iterator[None]:
    """Inside the block, watcher(kernel, plain call, arguments) stands for every call of a kernel from this thread."""
    watched = (threading.get_ident(), watcher)
    with _lock:
        _watchers.append(watched)
        kernels.become(_watched_kind(kernels.plain))
    try:
        yield
    finally:
        with _lock:
            _watchers.remove(watched)
            if not _watchers:
                kernels.become(kernels.plain)


@functools.cache
def _watched_kind(plain: Any) -> Any:
    class Watched(plain):
        def __call__(self, *arguments: Any) -> Any:
            call: Callable = super().__call__
            for thread, watcher in _watchers:
                if thread == threading.get_ident():
                    call = functools.partial(_through, watcher, self, call)
            return call(*arguments)

    return Watched


def _through(watcher: Watcher, kernel: Any, plain: Callable, *arguments: Any) -> Any:
    return watcher(kernel, plain, arguments)


@contextmanager
def timed() -> Iterator[list[TimedCall]]:
    """Inside the block, every call of a kernel from this thread is timed, and appended to the list that the block is given."""
    calls: list[TimedCall] = []

    def watcher(kernel: Any, plain: Callable, arguments: tuple) -> Any:
        start = time.perf_counter()
        result = plain(*arguments)
        calls.append(TimedCall(kernel.py_func, arguments, time.perf_counter() - start))
        return result

    with _watching(watcher):
        yield calls


@contextmanager
def recorded() -> Iterator[list[Call]]:
    """Inside the block, every call of a kernel from this thread is also appended to the list that the block is given, as (kernel,
    arguments): calling them again repeats the work on the same arrays."""
    calls: list[Call] = []

    def watcher(kernel: Any, plain: Callable, arguments: tuple) -> Any:
        calls.append((kernel, arguments))
        return plain(*arguments)

    recorder = (threading.get_ident(), calls)
    with _watching(watcher):
        with _lock:
            _recorders.append(recorder)
        try:
            yield calls
        finally:
            with _lock:
                _recorders[:] = [r for r in _recorders if r is not recorder]  # an equal one may be another recording's


def incomplete() -> None:
    """Tells whoever records this thread's kernels that work is done around them as well, so that repeating them would not do."""
    for thread, calls in tuple(_recorders):
        if thread == threading.get_ident():
            calls.append(ELSEWHERE)


def prepared(calls: list[Call]) -> list[Call]:
    """The calls with each kernel's machine code for just these arguments in its place: a dispatcher's look at their types takes longer than
    many a kernel of a small model."""
    return [(_code(kernel, arguments), arguments) for kernel, arguments in calls]


def _code(kernel: Any, arguments: tuple) -> Callable:
    if not isinstance(kernel, kernels.plain):
        return kernel
    compiled = kernel.overloads.get(tuple([kernel.typeof_pyval(a) for a in arguments]))
    return kernel if compiled is None else compiled.entry_point


def repeat(calls: list[Call], fast: list[Call]) -> None:
    """Make the recorded calls again, in order; as they were prepared, unless somebody looks on."""
    with parallel_lock:
        for kernel, arguments in calls if _watchers else fast:
            kernel(*arguments)
