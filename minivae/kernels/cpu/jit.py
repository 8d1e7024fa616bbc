"""How a kernel is compiled: numba's options, an on-disk cache that never runs stale code, and a lock around parallel calls.

    @kernel                      one thread; the interpreter lock stays held, so two Python threads never meet inside
    @kernel(parallel=True)       numba.prange may be used; one caller at a time
    @device, @inline             a function that only kernels call; @inline: so small that a call would cost more than its work
    @shared("void(int64, ...)")  a large one that many kernels call, on numbers and addresses: compiled once, where a @device function
                                 is compiled again as a part of each kernel; a kernel names those that it calls: @kernel(links=[...])

Nothing is compiled until a kernel is first called.  Compiled code lies under $MINIVAE_CACHE, else $XDG_CACHE_HOME/minivae, else
~/.cache/minivae, in a folder named after a hash of everything it was made from: the sources of all kernels (numba itself does not see
an edit in a function that a kernel inlines), the versions of the compiler, and the processor.  Folders that nobody has used for a month
are deleted.
"""

import functools
import hashlib
import os
import pickle
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
import llvmlite.binding as llvm
import numba
import numba.extending
import numpy as np
from numba.core import sigutils
from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache
from numba.core.ccallback import CFunc

config: Any = numba.config
njit: Any = numba.njit
OPTIONS: dict[str, Any] = {
    "error_model": "numpy",  # x / 0 is inf; numba's default tests every divisor, and no loop with a division is vectorised
    "fastmath": {"contract", "nsz", "arcp", "afn", "reassoc"},  # lets sums be vectorised, yet keeps NaN and inf
}


def kernel(function: Callable | None = None, *, parallel: bool = False, links: Sequence[Any] = ()) -> Any:
    """Compile `function` at its first call.  A parallel kernel may be called from any Python thread; calls queue."""
    if function is None:
        return functools.partial(kernel, parallel=parallel, links=links)
    compiled = njit(parallel=parallel, nogil=parallel, no_cfunc_wrapper=True, **OPTIONS)(function)
    _set_cache(compiled, function, links)
    _kernels.append(compiled)
    return _one_at_a_time(compiled) if parallel else compiled


def shared(signature: str, links: Sequence[Any] = ()) -> Callable[[Callable], Any]:
    """Compile once, when a kernel that links it is first compiled or loaded; kernels find it by its name."""

    def declare(function: Callable) -> Any:
        symbol = f"minivae.{function.__module__}.{function.__name__}"
        arguments, returned = sigutils.normalize_signature(signature)
        callback = CFunc(function, (arguments, returned), {}, OPTIONS)
        _set_cache(callback, function, links)
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


_shared: dict[str, Any] = {}  # not yet compiled
_linked: list[Any] = []  # kept alive: code points at them


def inline(function: Callable) -> Any:
    """A small function that only kernels call."""
    return njit(forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, **OPTIONS)(function)


def device(function: Callable) -> Any:
    """A function that only kernels call: it needs no entry from Python, which would take longer to compile than many of them."""
    return njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **OPTIONS)(function)


intrinsic: Any = numba.extending.intrinsic  # a function written in LLVM's language: its caller sees another signature
_parallel_lock = threading.RLock()
_kernels: list[Any] = []


def _one_at_a_time(compiled: Callable) -> Callable:
    """numba's workqueue threading layer aborts the process when two threads enter it; the other layers would share their workers."""

    @functools.wraps(compiled)
    def call(*arguments: Any) -> Any:
        with _parallel_lock:
            return compiled(*arguments)

    return call


Call = tuple[Callable, tuple]


class TimedCall(NamedTuple):
    function: Callable  # as it was written
    arguments: tuple
    seconds: float


@contextmanager
def _instead(call: Callable) -> Iterator[None]:
    """Inside the block, call(kernel, plain call, arguments) stands for every call of a kernel from this thread."""
    thread = threading.get_ident()
    dispatcher: Any = type(_kernels[0])

    class Watched(dispatcher):
        def __call__(self, *arguments: Any) -> Any:
            plain = super().__call__
            return call(self, plain, arguments) if threading.get_ident() == thread else plain(*arguments)

    plain = [type(k) for k in _kernels]
    for k in _kernels:
        k.__class__ = Watched
    try:
        yield
    finally:
        for k, kind in zip(_kernels, plain, strict=True):
            k.__class__ = kind


@contextmanager
def timed() -> Iterator[list[TimedCall]]:
    """Inside the block, every call of a kernel from this thread is timed, and appended to the list that the block is given."""
    calls: list[TimedCall] = []

    def call(kernel: Any, plain: Callable, arguments: tuple) -> Any:
        start = time.perf_counter()
        result = plain(*arguments)
        calls.append(TimedCall(kernel.py_func, arguments, time.perf_counter() - start))
        return result

    with _instead(call):
        yield calls


@contextmanager
def recorded() -> Iterator[list[Call]]:
    """Inside the block, every call of a kernel from this thread is also appended to the list that the block is given, as (kernel,
    arguments): calling them again repeats the work on the same arrays.  Outside of such blocks a call costs nothing more."""
    calls: list[Call] = []

    def call(kernel: Any, plain: Callable, arguments: tuple) -> Any:
        calls.append((kernel, arguments))
        return plain(*arguments)

    with _instead(call):
        yield calls


def repeat(calls: list[Call]) -> None:
    """Make the recorded calls again, in order."""
    with _parallel_lock:
        for k, arguments in calls:
            k(*arguments)


def kernels_only(function: Callable) -> Callable:
    """Declares of a function on contiguous arrays that all of its work is done in kernels: around them it makes empty arrays and views."""
    function.kernels_only = "contiguous"  # type: ignore[attr-defined]
    return function


def kernels_only_rows(function: Callable) -> Callable:
    """The same of one whose matrices need only have contiguous rows."""
    function.kernels_only = "rows"  # type: ignore[attr-defined]
    return function


_scratch = threading.local()


def scratch(name: str, rows: int, columns: int) -> np.ndarray:
    """An uninitialised float32 buffer of at least (rows, columns), kept for this thread under `name` and handed out again."""
    buffer = getattr(_scratch, name, None)
    if buffer is None or buffer.shape[0] < rows or buffer.shape[1] < columns:
        # whole pages a row: two workers never write to one cache line
        buffer = np.empty((rows, -(-columns // 1024) * 1024), np.float32)
        setattr(_scratch, name, buffer)
    return buffer


# --- the processor -----------------------------------------------------------------------------------------------------------------


def cpu() -> tuple[str, str]:
    """(name, features) of the processor that numba compiles for, in LLVM's words; NUMBA_CPU_NAME and NUMBA_CPU_FEATURES are obeyed."""
    if config.CPU_NAME is None:
        name, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    else:
        name, features = config.CPU_NAME, ""  # what the named processor has, not what this one has
    return name, features if config.CPU_FEATURES is None else config.CPU_FEATURES


# --- the cache ---------------------------------------------------------------------------------------------------------------------


UNUSED = 30 * 24 * 3600  # seconds


def sources_hash(folder: Path) -> str:
    """A name for the code compiled from `folder`, here, with this compiler."""
    made_of = hashlib.sha256(repr((numba.__version__, llvmlite.__version__, *cpu())).encode())
    for path in sorted(folder.glob("*.py")):
        made_of.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return made_of.hexdigest()[:16]


@functools.cache
def cache_folder() -> Path | None:
    """The folder of compiled kernels, made if need be; None, with one warning, if it cannot be written."""
    root = os.environ.get("MINIVAE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "minivae")
    folder = Path(root, "kernels", sources_hash(Path(__file__).parent))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        _warn_once(
            "folder", f"{folder} cannot be written ({error}); kernels are compiled in every run: set MINIVAE_CACHE to another folder"
        )
        return None
    with suppress(OSError):  # another process may be deleting the same ones
        for other in folder.parent.iterdir():
            if other.stat().st_mtime < time.time() - UNUSED:
                shutil.rmtree(other, ignore_errors=True)
    return folder


_warned: set[str] = set()


def _warn_once(about: str, sentence: str) -> None:
    if about not in _warned:
        _warned.add(about)
        warnings.warn(f"minivae: {sentence}", RuntimeWarning, stacklevel=2)


def _set_cache(compiled: Any, function: Callable, links: Sequence[Any]) -> None:
    folder = cache_folder()
    if folder is None:
        compiled._cache = _NoCache(links)
        return
    users_folder = config.CACHE_DIR  # numba reads this setting here and never again
    config.CACHE_DIR = str(folder)
    try:
        compiled._cache = _Cache(function, links)
    finally:
        config.CACHE_DIR = users_folder


class _NoCache(NullCache):
    def __init__(self, links: Sequence[Any]):
        self.links = links

    def load_overload(self, *arguments: Any) -> Any:
        _link(self.links)


class _Cache(FunctionCache):
    """numba's cache, except that a damaged file is compiled anew and a failed write is forgiven."""

    def __init__(self, function: Callable, links: Sequence[Any]):
        super().__init__(function)
        self.links = links
        plain = self._cache_file
        self._cache_file = _ChecksummedFile.__new__(_ChecksummedFile)
        self._cache_file.__dict__ = plain.__dict__

    def load_overload(self, *arguments: Any) -> Any:
        _link(self.links)
        try:
            return super().load_overload(*arguments)
        except Exception as error:  # a damaged pickle may raise anything
            self._complain(error)
        try:
            self.flush()
        except OSError:
            self.disable()
        return None

    def save_overload(self, *arguments: Any) -> None:
        try:
            super().save_overload(*arguments)
        except Exception as error:
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        _warn_once("file", f"compiled kernels in {cache_folder()} cannot be used ({type(error).__name__}: {error}); compiling again")


class _ChecksummedFile(IndexDataCacheFile):
    """Machine code whose bits have changed would crash the process, so every file ends with its SHA-256."""

    def _dump(self, entry: Any) -> bytes:
        data = super()._dump(entry)
        return data + hashlib.sha256(data).digest()

    def _load_data(self, name: str) -> Any:
        data = Path(self._data_path(name)).read_bytes()
        if hashlib.sha256(data[:-32]).digest() != data[-32:]:
            raise ValueError(f"{name} is damaged")
        return pickle.loads(data[:-32])
