"""How a kernel is compiled: numba's options, what kernels share, and a lock around parallel calls.

    @kernel                      one thread; the interpreter lock stays held, so two Python threads never meet inside
    @kernel(parallel=True)       numba.prange may be used; one caller at a time
    @kernel(exact=True)          every rounding as written, no sum reordered; the lock is let go: several threads may be inside
    @device, @inline             a function that only kernels call; @inline: so small that a call would cost more than its work
    @shared("void(int64, ...)")  a large one that many kernels call, on numbers and addresses: compiled once, where a @device function
                                 is compiled again as a part of each kernel; a kernel names those that it calls: @kernel(links=[...])

Nothing is compiled until a kernel is first called; cache.py keeps what was.
"""

import functools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
import numba
import numba.extending
import numpy as np
from numba.core import event, sigutils
from numba.core.ccallback import CFunc
from numba.core.registry import CPUDispatcher

from . import ahead
from .cache import cache_folder, set_cache

njit: Any = numba.njit
OPTIONS: dict[str, Any] = {
    "error_model": "numpy",  # x / 0 is inf; numba's default tests every divisor, and no loop with a division is vectorised
    "fastmath": {"contract", "nsz", "arcp", "afn", "reassoc"},  # lets sums be vectorised, yet keeps NaN and inf
}


def kernel(function: Callable | None = None, *, parallel: bool = False, exact: bool = False, links: Sequence[Any] = ()) -> Any:
    """Compile `function` at its first call.  A parallel kernel may be called from any Python thread; calls queue."""
    if function is None:
        return functools.partial(kernel, parallel=parallel, exact=exact, links=links)
    options = OPTIONS | ({"fastmath": False} if exact else {})
    compiled = njit(parallel=parallel, nogil=parallel or exact, no_cfunc_wrapper=True, **options)(function)
    set_cache(compiled, function, lambda: _link(links))
    kernels.add(compiled)
    return _one_at_a_time(compiled) if parallel else compiled


def shared(signature: str, links: Sequence[Any] = ()) -> Callable[[Callable], Any]:
    """Compile once, when a kernel that links it is first compiled or loaded; kernels find it by its name."""

    def declare(function: Callable) -> Any:
        symbol = f"minivae.{function.__module__}.{function.__name__}"
        arguments, returned = sigutils.normalize_signature(signature)
        callback = _Callback(function, (arguments, returned), {}, OPTIONS)
        set_cache(callback, function, lambda: _link(links))
        external = numba.types.ExternalFunction(symbol, returned(*arguments))
        _shared[symbol] = callback
        return external

    return declare


def _link(externals: Sequence[Any]) -> None:
    """Make sure that code which calls these shared functions will find them."""
    for external in externals:
        callback = _shared.pop(external.symbol, None)
        if callback is not None:
            callback.compile()  # links what it calls, too
            llvm.add_symbol(external.symbol, callback.address)
            _linked.append(callback)


class _Callback(CFunc):
    def _compile_uncached(self) -> Any:
        with event.trigger_event("numba:compile", data={"dispatcher": self}):
            return super()._compile_uncached()  # type: ignore[misc]


_shared: dict[str, Any] = {}  # not yet compiled
_linked: list[Any] = []  # kept alive: code points at them


def inline(function: Callable) -> Any:
    """A small function that only kernels call."""
    return njit(forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, **OPTIONS)(function)


def inline_exact(function: Callable) -> Any:
    """The same for kernels that are exact."""
    return njit(forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, **OPTIONS | {"fastmath": False})(function)


def device(function: Callable) -> Any:
    """A function that only kernels call: it needs no entry from Python, which would take longer to compile than many of them."""
    return njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **OPTIONS)(function)


intrinsic: Any = numba.extending.intrinsic  # a function written in LLVM's language: its caller sees another signature
parallel_lock = threading.RLock()


class Kernels:
    """All kernels: dispatchers of numba, of one kind, which changes while somebody looks on (watch.py)."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self.plain: Any = CPUDispatcher
        self.kind = self.plain

    def add(self, kernel: Any) -> None:
        kernel.__class__ = self.kind
        self.all.append(kernel)

    def become(self, kind: Any) -> None:
        self.kind = kind
        for kernel in self.all:
            kernel.__class__ = kind


kernels = Kernels()


def _one_at_a_time(compiled: Callable) -> Callable:
    """numba's workqueue threading layer aborts the process when two threads enter it; the other layers would share their workers."""

    @functools.wraps(compiled)
    def call(*arguments: Any) -> Any:
        with parallel_lock:
            return compiled(*arguments)

    return call


_scratch = threading.local()


def scratch(name: str, rows: int, columns: int) -> np.ndarray:
    """An uninitialised float32 buffer of at least (rows, columns), kept for this thread under `name` and handed out again."""
    buffer = getattr(_scratch, name, None)
    if buffer is None or buffer.shape[0] < rows or buffer.shape[1] < columns:
        # whole pages a row: two workers never write to one cache line
        buffer = np.empty((rows, -(-columns // 1024) * 1024), np.float32)
        setattr(_scratch, name, buffer)
    return buffer


def threads() -> int:
    """That a parallel kernel uses."""
    return numba.get_num_threads()


class Compiling(event.Listener):
    """What numba has compiled in this process: how much, for how long, and what just now."""

    def __init__(self) -> None:
        self.kernels, self.seconds, self.depth = 0, 0.0, 0
        self.tell: Callable[[], None] = lambda: None  # called before and after each kernel

    def on_start(self, event: Any) -> None:
        if self.depth == 0:
            if self.kernels == 0:
                ahead.begin(cache_folder(), threads())
            self.tell()
            self.began = time.perf_counter()
        self.depth += 1

    def on_end(self, event: Any) -> None:
        self.depth -= 1
        if self.depth == 0:
            self.kernels += 1
            self.seconds += time.perf_counter() - self.began
            self.tell()


compiling = Compiling()
event.register("numba:compile", compiling)
