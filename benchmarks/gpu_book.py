"""What gpu.py finds, kept on disk from the first line on; and how it runs a section, whatever that does.  The standard library alone."""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

KEPT = 60  # lines of what a section said last


class Book:
    """rows.jsonl, gpu.json, summary.txt and log.txt in a folder."""

    def __init__(self, folder: Path, found: dict[str, Any]):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.start = folder, time.monotonic()
        self.found = found | {"sections": {}}
        self.now: dict[str, Any] | None = None
        self.lines, self.log = (open(folder / name, "w", 1) for name in ("rows.jsonl", "log.txt"))  # noqa: SIM115 (as long as the book)
        self.write("gpu.json", json.dumps(self.found, indent=1))

    def write(self, name: str, text: str) -> None:
        """All of it or, if somebody is killed meanwhile, what was there before."""
        beside = self.folder / f"{name}.part"
        beside.write_text(text + "\n")
        beside.replace(self.folder / name)

    def begin(self, section: Any, limit: float) -> None:
        self.now = {"name": section.name, "limit": limit, "began": self.since(), "ended": None, "why": "", "said": [], "rows": []}
        self.found["sections"][str(section.number)] = self.now
        self.log.write(f"=== {section.number} {section.name}, at most {limit:.0f} seconds\n")

    def since(self) -> float:
        return round(time.monotonic() - self.start, 2)

    def row(self, row: dict[str, Any]) -> None:
        """Something was found: on disk before anything else happens."""
        assert self.now is not None
        self.now["rows"].append(row)
        self.lines.write(json.dumps({"section": self.now["name"], "at": self.since()} | row) + "\n")

    def said(self, line: str) -> None:
        self.log.write(line)

    def end(self, why: str, said: list[str] | None = None, skipped: bool = False) -> None:
        """The section that began last is over; `why` is empty if it ended well."""
        if self.now is not None:
            self.now |= {"ended": self.since(), "why": why, "said": said if said and why else [], "skipped": skipped}
            self.now = None
        self.write("gpu.json", json.dumps(self.found, indent=1))

    def rows(self, number: int) -> list[dict[str, Any]]:
        return self.found["sections"].get(str(number), {}).get("rows", [])

    def ending(self, number: int) -> str:
        section = self.found["sections"].get(str(number))
        if section is None:
            return "not begun"
        took = f"{section['ended'] - section['began']:.0f} of {section['limit']:.0f} seconds" if section["ended"] is not None else "running"
        return section["why"] if section.get("skipped") else f"{section['why'] or 'done'} ({took})"

    def wrong(self) -> list[str]:
        """A sentence for each section that failed, and for each row that says that it does not hold."""
        sentences = []
        for section in self.found["sections"].values():
            if section["why"] and not section.get("skipped"):
                sentences.append(f"{section['name']}: {section['why']}")
            for row in section["rows"]:
                if row.get("holds") is False or "failed" in row:
                    what = row.get("failed") or row.get("what") or row.get("test") or "a row"
                    sentences.append(
                        f"{section['name']}: {what} {row.get('precision', '')}: {row.get('why') or 'wrong'}".replace(" : ", ": ")
                    )
        return sentences

    def summary(self, text: str) -> None:
        self.write("summary.txt", text)

    def close(self) -> None:
        self.lines.close()
        self.log.close()


def rows_before(folder: Path, name: str) -> list[dict[str, Any]]:
    """What a section of this call has found so far, as a later one may want to know."""
    path = folder / "rows.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")] if path.exists() else []
    return [row for row in rows if row["section"] == name]


def run_child(
    command: list[str], limit: float, environment: dict[str, str], on_row: Callable[[dict], None], on_line: Callable[[str], None]
) -> tuple[str, list[str]]:
    """Run a section in a session of its own for at most `limit` seconds.  -> why it ended early ("" if it did not), and its last words.

    Nothing of it is left behind, whether it ends, hangs, dies, or somebody interrupts.
    """
    last: deque[str] = deque(maxlen=KEPT)
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    )

    def rows() -> None:
        for line in process.stdout:  # type: ignore[union-attr]
            try:
                row = json.loads(line)
            except ValueError:  # the last line of who was stopped
                on_line(line)
            else:
                on_row(row)

    def words() -> None:
        for line in process.stderr:  # type: ignore[union-attr]
            last.append(line.rstrip("\n"))
            on_line(line)

    readers = [threading.Thread(target=work, daemon=True) for work in (rows, words)]
    for reader in readers:
        reader.start()
    late = False
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        late = True
    finally:
        kill(process)
        for reader, pipe in zip(readers, (process.stdout, process.stderr), strict=True):
            reader.join(5)
            if not reader.is_alive():
                pipe.close()  # type: ignore[union-attr]
    return why_of(process.returncode, late, limit, list(last)), list(last)


def kill(process: subprocess.Popen) -> None:
    """The process and all that it started; who waits for a driver for ever is not waited for."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)


def why_of(code: int | None, late: bool, limit: float, said: list[str]) -> str:
    if late or any(line.startswith("Timeout (") for line in said):
        return f"not done in {limit:.0f} seconds"
    if code is None or code < 0:
        return f"killed by {signal.Signals(-code).name}" if code else "it cannot be killed"
    lines = [line.strip() for line in said if line.strip()]
    return "" if code == 0 else (lines[-1] if lines else f"exit code {code}")
