"""minivae on a GPU: is it right, how fast is it beside PyTorch on the same GPU, and how near does each kernel come to what the GPU can do?

    python gpu.py --out found                      # all of it, in less than 8 minutes; from a checkout, nothing installed but CuPy
    python gpu.py --out found --sections 1 2 3     # is it right?
    python gpu.py --out found --dry-run            # every section on a stand-in for the GPU: does the plumbing work?

By worth, each section in a process of its own, with a limit of its own:

1. device     versions, what compiling takes, one launch of each kernel against the float64 reference, random numbers bit for bit
2. training   the dense and the convolutional VAE on digits that lie beside this file, eager and as a graph, against losses of the CPU
3. tests      the tests marked gpu, the shortest first
4. rivals     a training step of five workloads by minivae and PyTorch in turn; TF32 is off but for the contestants that say so
5. kernels    each kernel's share of the bandwidth or of the arithmetic's peak, and the time of each node of the graph
6. sanitizer  compute-sanitizer's four tools over a small launch of each kernel
7. profile    Nsight Compute on the five costliest kernels

FOLDER/rows.jsonl has a line for everything that was found, as soon as it was known; gpu.json the same by sections, with why and where one
ended early; summary.txt the tables; log.txt what the sections said.  A section that fails, hangs or dies costs itself alone.
Exit code 1: something is wrong, or a section failed.  2: no GPU.  130: interrupted; what was found by then is written.
"""

import argparse
import faulthandler
import importlib
import json
import math
import os
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE)]

from gpu_book import Book, run_child  # noqa: E402  (the checkout has to be on the path first: nothing needs to be installed)


@dataclass(frozen=True)
class Section:
    """A part of the whole: `need` seconds are kept for it while others run, and `limit` seconds are the most it gets."""

    number: int
    name: str
    place: str  # MODULE:FUNCTION of the options, which yields rows
    need: float
    limit: float


SECTIONS = [
    Section(1, "device", "gpu_sections:device", 45, 110),
    Section(2, "training", "gpu_train:training", 20, 60),
    Section(3, "tests", "gpu_tests:tests", 20, 70),
    Section(4, "rivals", "gpu_sections:rivals", 50, 150),
    Section(5, "kernels", "gpu_sections:kernels", 15, 60),
    Section(6, "sanitizer", "gpu_tools:sanitizer", 25, 90),
    Section(7, "profile", "gpu_tools:profile", 20, 60),
]
FIVE = ["conv", "burgess", "mlp", "iwae50", "iwae1"]  # where most is to be gained first
SLOWER = 5.0  # a dry run's limits: the stand-in runs every thread of a kernel in turn


def environment() -> dict[str, str]:
    """What a section sees: the checkout's modules first, and a folder for compiled kernels that the next call finds again."""
    found = dict(os.environ)
    found["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(HERE), *filter(None, [found.get("PYTHONPATH")])])
    found["PYTHONUNBUFFERED"] = "1"
    found.setdefault("CUPY_CACHE_DIR", str(Path(tempfile.gettempdir()) / "minivae-gpu-kernels"))
    return found


def seconds_for(section: Section, later: list[Section], left: float, slower: float) -> float:
    """Its limit, less what has to be kept for those behind it; 0 where its need is not left."""
    most = left - slower * sum(other.need for other in later)
    return min(slower * section.limit, max(most, min(left, slower * section.need))) if left >= slower * section.need / 2 else 0.0


def benchmark(options: argparse.Namespace) -> int:
    end = time.monotonic() + options.seconds
    chosen = [section for section in SECTIONS if section.number in options.sections]
    slower = SLOWER if options.dry_run else 1.0
    book = Book(options.out, {"arguments": options.arguments, "seconds": options.seconds, "dry_run": options.dry_run})
    stop = signal.signal(signal.SIGTERM, interrupt)  # as `timeout` sends it
    try:
        for i, section in enumerate(chosen):
            limit = seconds_for(section, chosen[i + 1 :], end - time.monotonic(), slower)
            book.begin(section, limit)
            if not limit:
                book.end(f"left out: the {options.seconds:.0f} seconds are over", skipped=True)
            else:
                book.end(*run_child(child_command(section, limit, options.arguments), limit, environment(), book.row, book.said))
            show(book, section)
            if section.number == 1 and not any("name" in row for row in book.rows(1)) and not options.dry_run:
                why = str(book.found["sections"]["1"]["why"]).removeprefix("minivae.errors.UsageError: ")
                print(f"gpu.py: no figures without a GPU: {why}", file=sys.stderr)
                return 2
    except KeyboardInterrupt:
        book.end("interrupted")
        show(book)
        print(f"gpu.py: interrupted; what was found so far is in {book.folder}", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, stop)
        book.close()
    print(summary(book, chosen), flush=True)
    return 1 if book.wrong() else 0


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def child_command(section: Section, limit: float, arguments: list[str]) -> list[str]:
    """This program again, as one section."""
    return [sys.executable, str(HERE / "gpu.py"), *arguments, "--child", section.place, "--limit", f"{limit:.1f}"]


def show(book: Book, section: Section | None = None) -> None:
    """Write the summary anew; print the section's part of it."""
    numbers = [int(number) for number in book.found["sections"]]
    book.summary("\n\n".join(part_of(book, number) for number in numbers))
    if section is not None:
        print(part_of(book, section.number), flush=True)


def summary(book: Book, chosen: list[Section]) -> str:
    """How each section ended, and all that is wrong."""
    lines = [f"{section.number} {section.name}: {book.ending(section.number)}" for section in chosen]
    text = "\n".join(["", "All in all", *lines, *(f"WRONG: {sentence}" for sentence in book.wrong())])
    book.summary(f"{(book.folder / 'summary.txt').read_text()}\n{text}")
    return text


def part_of(book: Book, number: int) -> str:
    """A section's tables.  What cannot be shown is said, and costs no other."""
    head = f"=== {number} {book.found['sections'][str(number)]['name']}: {book.ending(number)}"
    try:
        import gpu_tables

        return f"{head}\n{gpu_tables.of(number, book.rows(number))}".rstrip()
    except Exception:
        return f"{head}\nno table: {traceback.format_exc()}"


def child(options: argparse.Namespace) -> int:
    """One section: its rows as lines of JSON to the parent; whatever else is printed goes to the log."""
    answers = os.fdopen(os.dup(1), "w", 1)
    os.dup2(2, 1)
    faulthandler.enable()
    if math.isfinite(options.limit):  # where it hangs, it says itself, just before it is killed
        faulthandler.dump_traceback_later(max(0.9 * options.limit, options.limit - 3), exit=True)
    options.until = time.monotonic() + 0.85 * options.limit  # when to begin nothing more
    if options.dry_run:
        import gpu_dry

        gpu_dry.install(options)
    module, _, name = options.child.partition(":")
    for row in getattr(importlib.import_module(module), name)(options):
        answers.write(json.dumps(row) + "\n")
    answers.flush()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # not by way of drivers that may hang when they are unloaded


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="minivae on a GPU", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    numbers = [section.number for section in SECTIONS]
    parser.add_argument("--out", type=Path, default=Path("gpu"), metavar="FOLDER", help="where everything that is found is written")
    names = ", ".join(f"{section.number} {section.name}" for section in SECTIONS)
    parser.add_argument("--sections", nargs="+", type=int, choices=numbers, default=numbers, metavar="N", help=names)
    parser.add_argument("--seconds", type=float, default=450.0, help="the whole takes no longer; 240 leaves a second call of a short loan")
    parser.add_argument("--dry-run", action="store_true", help="on a stand-in, which needs no GPU and no CuPy, but g++ and the tests")
    parser.add_argument("--workloads", nargs="+", metavar="NAME", help=f"of sections 4 and 5, in this order; {' '.join(FIVE)}")
    parser.add_argument("--contestants", nargs="+", metavar="NAME", help="of section 4; see gpu_sections.py; all, or some by name")
    parser.add_argument("--rounds", type=int, default=15, help="turns of every contestant")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds: a contestant or test that is silent for longer is stopped")
    parser.add_argument("--store", action="store_true", help="train on this CPU, and store the losses that section 2 compares with")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=float, default=math.inf, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not (options.seconds > 0 and math.isfinite(options.seconds)):
        parser.error(f"--seconds is {options.seconds}; need a positive number")
    unknown = set(options.workloads or ()) - {*FIVE, "tiny"}
    if unknown:
        parser.error(f"--workloads {' '.join(sorted(unknown))}: unknown; choose of {', '.join([*FIVE, 'tiny'])}")
    if options.child:
        return child(options)
    if options.store:
        import gpu_train

        gpu_train.store()
        return 0
    options.arguments = sys.argv[1:] if arguments is None else arguments
    if options.dry_run and options.seconds == parser.get_default("seconds"):
        options.seconds *= SLOWER
    return benchmark(options)


if __name__ == "__main__":
    sys.exit(main())
