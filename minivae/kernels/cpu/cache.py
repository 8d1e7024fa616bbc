"""Where compiled kernels are kept: an on-disk cache that never runs stale code.

Compiled code lies under $MINIVAE_CACHE, else $XDG_CACHE_HOME/minivae, else ~/.cache/minivae, in a folder named after a hash of everything
it was made from: the sources of all kernels (numba itself does not see an edit in a function that a kernel inlines), the versions of the
compiler, and the processor.  Folders that nobody has used for a month are deleted.
"""

import functools
import hashlib
import io
import os
import pickle
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import llvmlite
import llvmlite.binding as llvm
import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

config: Any = numba.config


def cpu() -> tuple[str, str]:
    """(name, features) of the processor that numba compiles for, in LLVM's words; NUMBA_CPU_NAME and NUMBA_CPU_FEATURES are obeyed."""
    if config.CPU_NAME is None:
        name, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    else:
        name, features = config.CPU_NAME, ""  # what the named processor has, not what this one has
    return name, features if config.CPU_FEATURES is None else config.CPU_FEATURES


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


def set_cache(compiled: Any, function: Callable, before: Callable[[], None]) -> None:
    """Give a numba dispatcher this cache; `before` is called before anything is loaded or compiled."""
    folder = cache_folder()
    if folder is None:
        compiled._cache = _NoCache(before)
        return
    users_folder = config.CACHE_DIR  # numba reads this setting here and never again
    config.CACHE_DIR = str(folder)
    try:
        compiled._cache = _Cache(function, before)
    finally:
        config.CACHE_DIR = users_folder


class _NoCache(NullCache):
    def __init__(self, before: Callable[[], None]):
        self.before = before

    def load_overload(self, *arguments: Any) -> Any:
        self.before()


class _Cache(FunctionCache):
    """numba's cache, except that a damaged file is compiled anew and a failed write is forgiven."""

    def __init__(self, function: Callable, before: Callable[[], None]):
        super().__init__(function)
        self.before = before
        self.claim: IO[bytes] = io.BytesIO()
        plain = self._cache_file
        self._cache_file = _ChecksummedFile.__new__(_ChecksummedFile)
        self._cache_file.__dict__ = plain.__dict__

    def load_overload(self, *arguments: Any) -> Any:
        self.before()
        found = self._load(*arguments)
        if found is None:  # to be compiled, unless another process is doing it just now
            self.claim = _claim(Path(self._cache_file._index_path + ".claim"))
            found = self._load(*arguments)
            if found is not None:
                self.claim.close()
        return found

    def _load(self, *arguments: Any) -> Any:
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
        self.claim.close()

    def _complain(self, error: Exception) -> None:
        _warn_once("file", f"compiled kernels in {cache_folder()} cannot be used ({type(error).__name__}: {error}); compiling again")


def _claim(path: Path) -> IO[bytes]:
    """A file that no other process holds while it is open here; after a minute, or where there are no such locks, merely a file."""
    try:
        file: IO[bytes] = path.open("wb")
    except OSError:
        return io.BytesIO()
    for _ in range(600 if fcntl else 0):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            time.sleep(0.1)
    return file


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
