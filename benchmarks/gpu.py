"""minivae on a GPU: is it right, how fast is it beside PyTorch on the same GPU, and how near does each kernel come to what the GPU can do?

    python gpu.py --json gpu.json            # all of it, in less than 8 minutes

1. Values and gradients of every kernel against the float64 reference, random numbers bit for bit (gpu_check.py).
2. One training step (fresh noise, forward, objective, gradients, Adam) of the five workloads, by minivae and PyTorch in turn, each in its
   own process, as compare.py does it: minivae eager, minivae's CUDA graph in FP32 and TF32; PyTorch eager, torch.compile, and its whole
   step as a CUDA graph.  TF32 is off in PyTorch but for the contestant that says so.  A ratio compares two turns of one round.
3. Each kernel's share of the memory's bandwidth or of the arithmetic's peak (gpu_kernels.py).

What fails, or is silent for too long, is named and left out; what is there is written all the same.  Exit code 1: something is wrong, or
minivae's own step failed.  2: no GPU.
"""

import argparse
import contextlib
import importlib.util
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from compare import compare, disagreements
from gpu_kernels import copy_bandwidth, floor, measured, peaks_of, timer, watched, work_of
from report import Row, factors, ratio, table
from workloads import WORKLOADS, common

from minivae.backend import gpu
from minivae.cli.bench import spread
from minivae.errors import UsageError

FIVE = [name for name in WORKLOADS if name != "tiny"]
CONTESTANTS = {  # ours first: the others are measured against it
    "minivae-graph": "gpu_minivae:graph",
    "minivae-graph-tf32": "gpu_minivae:graph_tf32",
    "minivae-eager": "gpu_minivae:eager",
    "torch": "gpu_torch:eager",
    "torch-compile": "gpu_torch:compiled",
    "torch-graph": "gpu_torch:graph",
    "torch-compile-graph": "gpu_torch:compiled_graph",
    "torch-graph-tf32": "gpu_torch:graph_tf32",
}
RESERVE = 60.0  # seconds of the budget that are kept for the kernels


class Report:
    """What was found so far, written whenever there is more of it."""

    def __init__(self, path: Path | None, found: dict[str, Any]):
        self.path, self.found = path, found

    def add(self, **parts: Any) -> None:
        self.found |= parts
        if self.path is not None:
            beside = self.path.with_name(self.path.name + ".part")
            beside.write_text(json.dumps(self.found, indent=1))
            beside.replace(self.path)


def summary(rows: list[Row], floors: dict[str, dict[str, float]]) -> str:
    """Every contestant on every workload; ratios above 1 where ours, of the same precision, is faster."""
    lines = []
    for row in rows:
        tf32 = row.contestant.endswith("tf32")
        ours = next((r for r in rows if r.workload == row.workload and r.contestant == f"minivae-graph{'-tf32' if tf32 else ''}"), None)
        against = factors(ratio(ours, row)) if ours is not None and row is not ours else ["", ""]
        median, low, high = spread([1e6 * s for s in row.seconds])
        least = floors.get(row.workload, {}).get("tf32" if tf32 else "fp32")
        times_floor = f"{1e-6 * median / least:.1f}" if least else ""
        lines.append([row.workload, row.contestant, f"{median:.1f}", f"{low:.1f} to {high:.1f}", *against, times_floor])
    header = ["workload", "contestant", "us a step", "10th to 90th", "minivae-graph is faster by", "10th to 90th", "times the floor"]
    return table(header, lines) if lines else ""


def check_table(rows: list[dict[str, Any]]) -> str:
    wrong = [row for row in rows if not row["holds"]]
    worst = {p: max((r["worst"] for r in rows if r["precision"] == p), default=0.0) for p in ("fp32", "tf32")}
    head = f"{len(rows)} checks, {len(wrong)} wrong; the worst relative error: FP32 {worst['fp32']:.1e}, TF32 {worst['tf32']:.1e}"
    return "\n".join(
        [head, *(f"WRONG: {r['what']}, {r['precision']}: {r['of']} off by {r['worst']:.2e}, bound {r['bound']:g}" for r in wrong)]
    )


def kernel_table(rows: list[dict[str, Any]], most: int = 12) -> str:
    """The kernels that take the most time."""
    lines = [
        [
            f"{row['workload']} {row['kernel']}",
            row["launches"],
            f"{row['microseconds']:.2f}",
            f"{row['gigaflop_per_second']:.0f}",
            f"{row['gigabyte_per_second']:.0f}",
            f"{100 * row['share']:.0f}% of {row['bound']}",
        ]
        for row in sorted(rows, key=lambda row: -row["launches"] * row["microseconds"])[:most]
    ]
    return table(["kernel", "launches a step", "us each", "GFLOP/s", "GB/s", "achieved"], lines) if lines else ""


# --- in a process with the GPU -----------------------------------------------------------------------------------------------------


def device_section(_: str) -> Iterator[dict[str, Any]]:
    cupy = gpu()
    device, runtime = cupy.cuda.Device(), cupy.cuda.runtime
    name = runtime.getDeviceProperties(device.id)["name"].decode()
    yield {"name": name, "driver": runtime.driverGetVersion(), "cupy": cupy.__version__, "compute_capability": device.compute_capability}
    yield {"peaks": peaks_of(device.attributes, device.compute_capability)}
    yield {"measured_copy_bandwidth": copy_bandwidth(cupy)}


def check_section(_: str) -> Iterator[dict[str, Any]]:
    from gpu_check import check

    return check()


def kernels_section(workload: str) -> Iterator[dict[str, Any]]:
    """The kernels of an eager step; and one epoch of Trainer.epoch, of 500 steps, with all that belongs to an epoch."""
    from gpu_minivae import trainer_of

    cupy, w = gpu(), WORKLOADS[workload]
    init, x, _ = common(w)
    device = cupy.cuda.Device()
    for precision in ("fp32", "tf32"):
        trainer = trainer_of(w, init, precision)
        there = cupy.asarray(x.reshape(len(x), *w.image))
        trainer.step(there)
        with watched() as calls:
            trainer.step(there)
        for row in measured(calls, timer(cupy), peaks_of(device.attributes, device.compute_capability)):
            yield {"workload": workload, "precision": precision} | row
    images = cupy.asarray(np.tile((255 * x).astype(np.uint8).reshape(len(x), *w.image), (500, 1, 1, 1)))
    trainer = trainer_of(w, init)
    trainer.epoch(images)
    start = time.perf_counter()
    trainer.epoch(images)
    yield {"workload": workload, "epoch_microseconds_a_step": 1e6 * (time.perf_counter() - start) / 500}


SECTIONS: dict[str, Callable[[str], Iterator[dict[str, Any]]]] = {
    "device": device_section,
    "check": check_section,
    "kernels": kernels_section,
}


# --- in the driver -----------------------------------------------------------------------------------------------------------------


def section(name: str, workload: str = "", patience: float = 60.0) -> tuple[list[dict[str, Any]], str]:
    """The rows that a section of its own process yields, and why it ended early, if it did."""
    command = [sys.executable, __file__, "--section", name, "--workloads", workload or FIVE[0]]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = process.communicate(timeout=max(patience, 1.0))
        said = [line.strip() for line in err.splitlines() if line.strip()]
        why = "" if process.returncode == 0 else (said[-1] if said else f"exit code {process.returncode}")
    except subprocess.TimeoutExpired:
        process.kill()
        out, why = process.communicate()[0], f"not done in {patience:.0f} seconds"
    rows = []
    for line in out.splitlines():
        with contextlib.suppress(ValueError):  # the last line of who was stopped
            rows.append(json.loads(line))
    return rows, why


def contestants_here() -> tuple[dict[str, str], str]:
    """Who can be asked, and a sentence about who cannot."""
    if importlib.util.find_spec("torch") is not None:
        return dict(CONTESTANTS), ""
    ours = {name: place for name, place in CONTESTANTS.items() if name.startswith("minivae")}
    return ours, "PyTorch is not installed, so its rows are left out; pip install torch brings it"


def benchmark(options: argparse.Namespace) -> int:
    end = time.monotonic() + options.seconds
    report, notes = Report(options.json, {"seconds": options.seconds}), []

    def left(reserve: float = 0.0) -> float:
        return end - time.monotonic() - reserve

    found, why = section("device", patience=min(60.0, left()))
    device = {key: value for row in found for key, value in row.items()}
    report.add(device=device)
    if "name" not in device:
        raise UsageError(f"no figures without a GPU: {why.removeprefix('minivae.errors.UsageError: ')}")
    notes += [f"device: {why}"] if why else []
    print(f"{device['name']}, CuPy {device['cupy']}", flush=True)

    checks, why = section("check", patience=min(90.0, left()))
    notes += [f"check: {why}"] if why else []
    report.add(checks=checks)
    print(check_table(checks), flush=True)

    contestants, missing = contestants_here()
    notes += [missing] if missing else []
    peaks = device.get("peaks", {})
    floors = {name: floor(*work_of(WORKLOADS[name]), peaks) for name in options.workloads if peaks}
    rows: list[Row] = []
    wrong = [f"check: {row['what']} {row['precision']}" for row in checks if not row["holds"]]
    for i, name in enumerate(options.workloads):
        share = left(RESERVE) / (len(options.workloads) - i)
        if share < 5:
            notes.append(f"{name}: left out, the {options.seconds:.0f} seconds are over")
            continue
        options.deadline = min(options.patience, share)
        options.until = time.monotonic() + share
        own = compare(name, contestants, options)
        wrong += disagreements(own)
        if not any(row.contestant == "minivae-graph" for row in own):
            wrong.append(f"{name}: minivae-graph failed")
        rows += own
        report.add(floors=floors, rows=[vars(row) for row in rows])
    print(summary(rows, floors), flush=True)

    kernels: list[dict[str, Any]] = []
    for name in options.workloads:
        if left() > 5:
            found, why = section("kernels", name, min(40.0, left()))
            notes += [f"kernels of {name}: {why}"] if why else []
            kernels += found
            report.add(kernels=kernels)
        else:
            notes.append(f"kernels of {name}: left out, the {options.seconds:.0f} seconds are over")
    print(kernel_table([row for row in kernels if "kernel" in row]))
    for row in kernels:
        if "epoch_microseconds_a_step" in row:
            print(f"{row['workload']}: {row['epoch_microseconds_a_step']:.1f} us a step over a whole epoch")
    report.add(notes=notes, wrong=wrong)
    for sentence in (*notes, *wrong):
        print(sentence, file=sys.stderr)
    return 1 if wrong else 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="minivae on a GPU", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--workloads", nargs="+", choices=list(WORKLOADS), default=FIVE, metavar="NAME", help=f"of {', '.join(FIVE)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure there")
    parser.add_argument("--seconds", type=float, default=450.0, help="the whole takes no longer; what does not fit is left out")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds: a contestant that is silent for longer is left out")
    parser.add_argument("--rounds", type=int, default=15, help="turns of every contestant")
    parser.add_argument("--section", choices=list(SECTIONS), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.section:
        for row in SECTIONS[options.section](options.workloads[0]):
            print(json.dumps(row), flush=True)
        return 0
    if not (options.seconds > 0 and math.isfinite(options.seconds)):
        parser.error(f"--seconds is {options.seconds}; need a positive number")
    options.restarts, options.chunk, options.gap, options.together = 1, 0.1, 0.01, True
    options.threads, options.tune_malloc = os.cpu_count() or 1, True
    try:
        return benchmark(options)
    except UsageError as error:
        print(f"gpu.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
