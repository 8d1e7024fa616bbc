"""Checkpoints: named arrays and metadata in one file that is whole or not there, and never wrong.

A checkpoint is a standard .npz (`numpy.load` reads it, nothing is pickled) whose zip comment, the last 71 bytes of the file, is
`sha256:` and the digest, in 64 hexadecimal digits, of every byte before those digits.  `load` checks the digest before it parses.

    save("model.npz", {"model/encoder.0.w": w}, {"epoch": 3});  arrays, metadata = load("model.npz")
"""

import errno
import hashlib
import io
import json
import os
import platform
import re
import secrets
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CheckpointError

METADATA = "metadata.json"  # the member that holds the metadata: UTF-8 JSON as a uint8 array
SEAL = b"sha256:"
DIGITS = 64
ABANDONED = 3600.0  # seconds
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# the machine is in the name because a folder may be shared, and a process number says nothing about another machine
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_TEMPORARY = re.compile(r"\.minivae-([0-9a-f]{8})-([0-9]{1,9})-[0-9a-f]{16}\.tmp")


def save(path: str | os.PathLike, arrays: dict[str, np.ndarray], metadata: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all; an older file at `path` is replaced in one step.

    Arrays are of booleans, integers or floats, of any shape.  Metadata is what JSON gives back unchanged: no tuple, no NaN, string keys.
    Equal content makes equal bytes: members are sorted by name and bear no date.  Raises CheckpointError.
    """
    path = Path(path)
    write_atomically(path, _pack(path, arrays, metadata))


def load(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays, metadata) as they were saved.  A file altered in any byte, cut short or appended to raises CheckpointError."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist; check the name, or save a model there first") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); name a checkpoint file that you may read") from error
    foreign = f"{path} is not a checkpoint ({len(data)} bytes of something else); name a file that minivae saved"
    if data[-DIGITS - len(SEAL) : -DIGITS] != SEAL:
        if not data.startswith(b"PK"):
            raise CheckpointError(foreign)
        raise CheckpointError(f"{path} has no checksum at its end: it was cut short, appended to or made elsewhere; use another copy of it")
    if _digest(data) != data[-DIGITS:]:
        raise CheckpointError(f"{path} is damaged: its {len(data)} bytes do not match their checksum; use another copy or an older one")
    try:
        arrays = {}
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                with archive.open(info) as member:
                    arrays[info.filename.removesuffix(".npy")] = np.lib.format.read_array(member, allow_pickle=False)
        return arrays, json.loads(arrays.pop(METADATA).tobytes())
    except (ValueError, KeyError, zipfile.BadZipFile) as error:  # sealed as ours are, by another program
        raise CheckpointError(foreign) from error


def write_atomically(path: str | os.PathLike, data: bytes) -> None:
    """Make `data` the content of the file at `path`: whoever looks, whenever the process or the machine dies, finds the old or the new.

    The bytes go to a temporary file beside it, then to the disk, and only then does the name move.  Raises CheckpointError.
    """
    path = Path(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise CheckpointError(f"{path} is a folder or a device, and a file is to be written there; choose another name")
    temporary = path.parent / f".minivae-{_HOST}-{os.getpid()}-{secrets.token_hex(8)}.tmp"
    try:
        _sweep(path.parent)
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # before the name moves: else a power cut may leave the new name on unwritten blocks
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        _flush_folder(path.parent)
    except OSError as error:
        if error.errno in DISK_FULL:
            cause = f"the disk or the quota has no room for its {len(data)} bytes; free some, or choose another folder"
        else:
            cause = f"the folder {path.parent} is missing or closed to writing; make it, or choose another"
        raise CheckpointError(f"{path} was not written ({error.strerror}): {cause}") from error


def _pack(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, Any]) -> bytes:
    """The bytes of a checkpoint; `path` only serves the messages."""
    try:
        text = json.dumps(metadata, ensure_ascii=False, allow_nan=False, sort_keys=True)
        encoded = np.frombuffer(text.encode(), np.uint8)
        if json.loads(text) != metadata:
            raise ValueError("a tuple, or a key that is no string")
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: the metadata would not come back from JSON as it is ({error}); use plain JSON values") from error
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            _check(path, name, arrays[name])
            _add(archive, name, arrays[name])
        _add(archive, METADATA, encoded)
        archive.comment = SEAL + bytes(DIGITS)
    with buffer.getbuffer() as data:
        data[-DIGITS:] = _digest(data)
    return buffer.getvalue()


def _add(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    info = zipfile.ZipInfo(name + ".npy")  # dated 1980-01-01, the zip format's zero
    info.create_system = 3  # Unix, on whatever system: part of equal bytes
    with archive.open(info, "w", force_zip64=array.nbytes > 2**31 - 2**16) as member:
        np.lib.format.write_array(member, np.asarray(array, order="C"), allow_pickle=False)  # the order in memory is no content


def _check(path: Path, name: str, array: np.ndarray) -> None:
    if name == METADATA or name.endswith(".npy") or not name.isprintable():
        raise CheckpointError(f"{path}: no array can be called {name!r}; use printable names, none {METADATA!r} or ending in .npy")
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        what = f"an array of {array.dtype}" if isinstance(array, np.ndarray) else f"a {type(array).__name__}"
        raise CheckpointError(f"{path}: {name!r} is {what}; save NumPy arrays of booleans, integers or floats")


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(memoryview(data)[:-DIGITS]).hexdigest().encode()


def _flush_folder(folder: Path) -> None:
    """Bring the folder's new entry to the disk."""
    if os.name != "posix":
        return  # Windows opens no folders
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot, and need not
            raise
    finally:
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Remove the temporary files of writers that were killed.

    A file is abandoned when its process was on this machine and is gone, or when it has not grown for an hour: the other
    writer may be on another machine, and the number of a dead process may have been given to a new one.
    """
    for name in os.listdir(folder):
        match = _TEMPORARY.fullmatch(name)
        if match:
            with suppress(OSError):  # another save may have swept it just now
                stale = time.time() - os.stat(folder / name).st_mtime > ABANDONED
                if stale or (match[1] == _HOST and not _alive(int(match[2]))):
                    os.unlink(folder / name)


def _alive(process: int) -> bool:
    if os.name != "posix":
        return True  # signal 0 would end it on Windows: there only age tells
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # alive, and somebody else's
        return True
    return True
