"""The tests run in several processes: what one of them does for all, and what it does while the others wait.

Not by the groups of pytest-xdist, which version 9.2 of pytest passes over without a word.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def common_folder(factory: pytest.TempPathFactory) -> Path:
    """A temporary folder of this run of all processes."""
    own = factory.getbasetemp()
    return own.parent if own.name.startswith("popen-") else own


@contextmanager
def alone(folder: Path, name: str) -> Iterator[None]:
    """One process at a time inside of the blocks of this name."""
    with (folder / f"{name}.lock").open("w") as lock:
        if fcntl:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def once(folder: Path, name: str, work: Callable[[], Any]) -> Any:
    """What work() returns, as JSON: one process does it, the others read it."""
    with alone(folder, name):
        found = folder / f"{name}.json"
        if not found.exists():
            found.write_text(json.dumps(work()))
        return json.loads(found.read_text())
