"""Files that are known by the SHA-256 of their content: find them in a folder, or download them into the cache.

A download is held in memory until its content is verified, and enters the cache under a unique temporary name, then its own in
one atomic step: the cache never holds half a file, whoever shares it.
"""

import hashlib
import http.client
import os
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from ..errors import DataError
from .idx import unpacked

try:
    import fcntl
except ImportError:  # Windows has none: two processes may then both download, and the later one replaces equal bytes
    fcntl = None  # type: ignore[assignment]

LARGEST = 2**28  # bytes of one download: ten times the largest known one, so that a mad server cannot fill the memory
SLOWEST = 1024  # bytes/s, averaged from the start: a server that drips passes every socket timeout


class Unavailable(DataError):
    """A data set that is not here and cannot be got: a missing file, no network, a cache that cannot be written."""

    def __init__(self, reason: str, way_out: str = ""):
        super().__init__(f"{reason}; {way_out}" if way_out else reason)
        self.reason = reason


class Altered(DataError):
    """A file whose content is not what its name promises."""

    def __init__(self, message: str, path: Path, found: str = ""):
        super().__init__(message)
        self.path, self.found = path, found  # `found` is the SHA-256 of the content, if it could be unpacked


def cache_folder() -> Path:
    """Where minivae keeps what it can get again: `MINIVAE_CACHE`, else `XDG_CACHE_HOME`/minivae, else ~/.cache/minivae."""
    if chosen := os.environ.get("MINIVAE_CACHE"):
        return Path(chosen).expanduser().absolute()
    xdg = os.environ.get("XDG_CACHE_HOME", "")  # relative ones are to be ignored, says the XDG Base Directory Specification
    return (Path(xdg) if os.path.isabs(xdg) else Path(os.path.expanduser("~/.cache"))) / "minivae"


def verified(path: Path, sha256: str) -> bytes:
    """The unpacked content of a file; Altered if its hash is another."""
    try:
        content = unpacked(path)
    except DataError as error:
        if not os.access(path, os.R_OK):
            raise
        raise Altered(str(error), path) from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise Altered(f"{path} is altered: the SHA-256 of its content is {found[:16]}..., need {sha256[:16]}...", path, found)
    return content


def find(folder: Path, name: str, sha256: str) -> bytes | None:
    """The content of an IDX file in the folder, in either spelling of its name, gzipped or not; None if it is not there."""
    for spelling in (name, name.replace("-idx", ".idx")):
        for path in (folder / f"{spelling}.gz", folder / spelling):
            try:
                if os.path.isfile(path):
                    return verified(path, sha256)
            except DataError:
                if path.exists():  # else another process has found the file altered, too, and deleted it
                    raise
    return None


def fetch(folder: Path, name: str, sha256: str, mirrors: Sequence[str], progress: bool, timeout: float, notes: list[str]) -> bytes:
    """The content of `name`, from the cache folder or else from the first mirror that serves it whole; then it is in the folder.

    An altered file in the folder is deleted, and `notes` says so.  timeout: seconds that a server may be silent.
    """
    with _locked(folder):
        while True:
            try:
                if (content := find(folder, name, sha256)) is not None:  # another process may have been here first
                    return content
                break
            except Altered as altered:
                _delete(altered.path)
                notes.append(f"{altered}; deleted, to download it anew")
        failures = []
        for mirror in mirrors:
            temporary = folder / f".{name}.{os.getpid()}.{secrets.token_hex(4)}.part"
            try:
                body = _receive(f"{mirror}{name}.gz", progress, timeout)
            except (OSError, http.client.HTTPException, ValueError) as error:
                reason = error.reason if type(error) is urllib.error.URLError else error
                failures.append(f"{mirror} ({getattr(reason, 'strerror', None) or reason})")
                continue
            try:
                _write(temporary, body)
                content = verified(temporary, sha256)
                os.replace(temporary, folder / f"{name}.gz")
                return content
            except Altered as altered:
                what = f"SHA-256 {altered.found[:16]}..., need {sha256[:16]}..." if altered.found else "a damaged gzip file"
                failures.append(f"{mirror} (altered: {what}; deleted)")
            except OSError as error:
                raise _unwritable(folder, error) from error
            finally:
                temporary.unlink(missing_ok=True)
    raise Unavailable(f"cannot download {name}.gz from {' or '.join(failures)}")


def _receive(url: str, progress: bool, timeout: float) -> bytes:
    """The body of an HTTP response, whole; OSError if the server is absent, refuses, stalls, drips or stops early."""
    request = urllib.request.Request(url, headers={"User-Agent": "minivae"})
    start, body = time.monotonic(), bytearray()
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        raise
    with response:
        announced = response.headers.get("Content-Length")
        total = int(announced) if announced else None
        # disable=None: a bar on a terminal, nothing in a log file
        with tqdm(total=total, unit="B", unit_scale=True, desc=url.rsplit("/", 1)[1], disable=None if progress else True) as bar:
            while chunk := response.read1(2**16):
                body += chunk
                bar.update(len(chunk))
                seconds = time.monotonic() - start
                if seconds > timeout and len(body) < SLOWEST * seconds:
                    raise TimeoutError(f"{len(body)} bytes in {seconds:.1f} s")
                if len(body) > LARGEST:
                    raise OSError(f"more than {LARGEST} bytes")
    if total is not None and len(body) != total:
        raise OSError(f"ended after {len(body)} of {total} bytes")
    return bytes(body)


def _write(path: Path, body: bytes) -> None:
    with open(path, "xb") as file:  # not mkstemp: its mode 0600 would lock others out of a shared cache
        file.write(body)
        file.flush()
        os.fsync(file.fileno())


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path.parent, error) from error


def _unwritable(folder: Path, error: OSError) -> Unavailable:
    return Unavailable(f"cannot write to the cache {folder}: {error.strerror}; set MINIVAE_CACHE to a folder that you can write to")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time in a cache folder, which is made if need be; the system frees the lock of a process that dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "ab")  # noqa: SIM115 (closed below, and that frees it)
    except OSError as error:
        raise _unwritable(folder, error) from error
    with lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                for leftover in folder.glob(".*.part"):  # of a process that was killed: nobody else is writing now
                    leftover.unlink(missing_ok=True)
            except OSError:  # some network file systems have no locks; the unique names suffice
                pass
        yield
