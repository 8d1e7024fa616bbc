"""Sections 1, 4 and 5 of gpu.py: the device and its kernels, minivae beside PyTorch, and where the time of a step goes."""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import io
import math
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from gpu_book import rows_before
from workloads import ALL, common

import minivae
from minivae.backend import gpu, set_backend

Rows = Iterator[dict[str, Any]]
FIVE = ["conv", "burgess", "mlp", "iwae50", "iwae1"]
CONTESTANTS = {  # ours first: the others are measured against it
    "minivae-graph": "gpu_minivae:graph",
    "minivae-graph-tf32": "gpu_minivae:graph_tf32",
    "minivae-eager": "gpu_minivae:eager",
    "torch": "gpu_torch:eager",
    "torch-graph": "gpu_torch:graph",
    "torch-graph-tf32": "gpu_torch:graph_tf32",
    "torch-compile": "gpu_torch:compiled",
    "torch-compile-graph": "gpu_torch:compiled_graph",
}
COMPILED = ("torch-compile", "torch-compile-graph")  # minutes of compiling: a second pass, if there is time
ENOUGH = 20.0  # seconds that a workload needs to be worth beginning


def attempt(what: str, rows: Callable[[], Rows]) -> Rows:
    """The rows; if it fails, what did and where, as a row of its own: the rest of the section goes on."""
    try:
        yield from rows()
    except Exception as error:
        traceback.print_exc()
        yield {"failed": what, "why": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}


def repeated(options: argparse.Namespace, dry: Any, real: Any) -> Any:
    return dry if options.dry_run else real


# --- 1: the device -----------------------------------------------------------------------------------------------------------------


def device(options: argparse.Namespace) -> Rows:
    from gpu_check import check

    set_backend("numpy")  # nothing here is about the CPU's kernels, which numba would compile for half a minute
    gpu()  # without one, this section ends here, and all with it
    yield from attempt("versions", versions)
    yield from attempt("compiling", lambda: compiled(options))
    yield from attempt("check", lambda: check(small=options.dry_run))
    yield from attempt("bandwidth", lambda: bandwidth(repeated(options, 2**16, 2**28)))


def versions() -> Rows:
    cupy = gpu()
    current, runtime = cupy.cuda.Device(), cupy.cuda.runtime
    found = {"name": runtime.getDeviceProperties(current.id)["name"].decode(), "compute_capability": current.compute_capability}
    yield found
    yield {"peaks": peaks()}
    found = {"driver": runtime.driverGetVersion(), "runtime": runtime.runtimeGetVersion(), "cupy": cupy.__version__}
    found |= {"python": platform.python_version(), "processors": os.cpu_count(), "minivae": str(Path(minivae.__file__).parent)}
    for package in ("numpy", "numba", "torch", "hypothesis", "pytest", "nvidia-cuda-nvrtc"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    yield {"versions": found}
    fields = "name,driver_version,clocks.max.sm,clocks.max.mem,power.limit,memory.total,mig.mode.current"
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
        yield {"nvidia_smi": subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()}


def peaks() -> dict[str, float]:
    from gpu_kernels import H200, peaks_of

    here = gpu().cuda.Device()
    return peaks_of(H200 | here.attributes, here.compute_capability)


def variants() -> list[tuple[str, tuple[str, ...]]]:
    """What there is to compile, the slowest first."""
    import minivae.kernels.gpu.step  # noqa: F401  its kernels are declared when it is loaded
    from minivae.kernels.gpu.launcher import Kernel, source

    every = {(kernel.file, kernel.defines) for kernel in Kernel.registry.values()}
    size = {variant: sum(kernel.file == variant[0] for kernel in Kernel.registry.values()) * len(source(variant[0])) for variant in every}
    return sorted(every, key=lambda variant: (-size[variant], variant))


def compiled(options: argparse.Namespace) -> Rows:
    """Every source, each in a process of its own, all at once; the sections behind this one find them compiled."""
    start, jobs = time.perf_counter(), variants()
    if options.dry_run:
        yield from (compile_one(i) for i in range(len(jobs)))
    else:
        with ThreadPoolExecutor(min(len(jobs), max(os.cpu_count() or 1, 2))) as pool:
            yield from pool.map(compile_elsewhere, range(len(jobs)))
    yield {"compiled": "all", "seconds": time.perf_counter() - start}


def compile_one(i: int) -> dict[str, Any]:
    from minivae.kernels.gpu.launcher import Kernel, current_device

    file, defines = variants()[i]
    start = time.perf_counter()
    current_device().load(next(k for k in Kernel.registry.values() if (k.file, k.defines) == (file, defines)))
    return {"compiled": " ".join([file, *defines]), "seconds": time.perf_counter() - start}


def compile_elsewhere(i: int) -> dict[str, Any]:
    code = f"import json, gpu_sections; print(json.dumps(gpu_sections.compile_one({i})))"
    done = subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        file, defines = variants()[i]
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"failed": f"compiling {' '.join([file, *defines])}", "why": said[-1], "traceback": done.stderr[-4000:]}
    import json

    return json.loads(done.stdout.splitlines()[-1])


def bandwidth(numbers: int) -> Rows:
    from gpu_kernels import copy_bandwidth

    yield {"measured_copy_bandwidth": copy_bandwidth(gpu(), numbers)}


# --- 4: minivae and PyTorch --------------------------------------------------------------------------------------------------------


def contestants_here() -> tuple[dict[str, str], str]:
    """Who can be asked, and a sentence about who cannot."""
    if importlib.util.find_spec("torch") is not None:
        return dict(CONTESTANTS), ""
    ours = {name: place for name, place in CONTESTANTS.items() if name.startswith("minivae")}
    return ours, "PyTorch is not installed, so its rows are left out; pip install torch brings it"


def passes(options: argparse.Namespace) -> tuple[list[dict[str, str]], list[str]]:
    """Who takes part in a first pass over the workloads, and in a second if there is time; and what there is to say about it."""
    if options.dry_run:
        import gpu_dry

        here, note = dict(gpu_dry.CONTESTANTS), ""
    else:
        here, note = contestants_here()
    asked = options.contestants or []
    notes = [note] if note else []
    if asked and asked != ["all"]:
        chosen = {name.split("=", 1)[0]: name.split("=", 1)[1] if "=" in name else here.get(name, "") for name in asked}
        notes += [f"{name}: not to be had; there are {', '.join(here)}" for name, place in chosen.items() if not place]
        return [{name: place for name, place in chosen.items() if place}], notes
    if asked == ["all"]:
        return [here], notes
    first = {name: place for name, place in here.items() if name not in COMPILED}
    second = {name: place for name, place in here.items() if name in ("minivae-graph", *COMPILED)}
    return [first, second] if len(second) > 1 else [first], notes


def rivals(options: argparse.Namespace) -> Rows:
    """The rows of each workload as soon as they are there; every pass goes through all workloads before the next."""
    from compare import compare, disagreements
    from gpu_kernels import floor, work_of

    options.restarts, options.chunk, options.gap, options.together = 1, repeated(options, 0.001, 0.1), 0.01, True
    options.threads, options.tune_malloc, options.avx2 = os.cpu_count() or 1, True, False
    options.rounds = repeated(options, 2, options.rounds)
    names = options.workloads or repeated(options, ["dry-mlp"], FIVE)
    rounds, notes = passes(options)
    yield from ({"note": note} for note in notes)
    limits = peaks()
    for number, contestants in enumerate(rounds, 1):
        for i, name in enumerate(names):
            left = options.until - time.monotonic()
            # an equal share of what is left, later passes counted as the first
            share = left / (len(names) - i + len(names) * (len(rounds) - number) / 2)
            if left < repeated(options, 1.0, min(ENOUGH, options.limit / 6)):
                yield {"note": f"{name}, pass {number}: left out, the section's time is over"}
                continue
            turn = argparse.Namespace(**vars(options))
            turn.deadline, turn.until = min(options.patience, max(left - 2, 1.0)), time.monotonic() + share
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                own = compare(name, dict(contestants), turn)
            yield from ({"note": line} for line in said.getvalue().splitlines() if line)
            least = floor(*work_of(ALL[name]), limits)
            yield from ({"row": vars(row), "floor": least} for row in own)
            yield from ({"what": name, "holds": False, "why": sentence} for sentence in disagreements(own))
            ours = next(iter(contestants), "")
            if not any(row.contestant == ours for row in own):
                yield {"what": name, "holds": False, "why": f"{ours} failed, so there is nothing to compare with"}


# --- 5: kernels and nodes ----------------------------------------------------------------------------------------------------------


def kernels(options: argparse.Namespace) -> Rows:
    names = options.workloads or repeated(options, ["dry-conv", "dry-mlp"], FIVE)
    slowest = 0.0
    for name in names:
        start = time.monotonic()
        if start + slowest > options.until:
            yield {"note": f"{name}: left out, the section's time is over"}
            continue
        yield from attempt(f"kernels of {name}", lambda name=name: kernels_of(name, options))
        yield from attempt(f"nodes of {name}", lambda name=name: nodes_of(name, options))
        slowest = max(slowest, time.monotonic() - start)


def kernels_of(name: str, options: argparse.Namespace) -> Rows:
    """The kernels of an eager step, by CUDA events: their time, and the share of what the GPU can do."""
    from gpu_kernels import measured, timer, watched
    from gpu_minivae import trainer_of

    cupy, w = gpu(), ALL[name]
    init, x, _ = common(w)
    clock = timer(cupy, repeated(options, 1, 20))
    for precision in repeated(options, ("fp32",), ("fp32", "tf32")):
        trainer = trainer_of(w, init, precision)
        there = cupy.asarray(x.reshape(len(x), *w.image))
        trainer.step(there)
        with watched() as calls:
            trainer.step(there)
        for row in measured(calls, clock, peaks()):
            yield {"workload": name, "precision": precision} | row


def nodes_of(name: str, options: argparse.Namespace) -> Rows:
    """The nodes of the step's graph in their order, each with its time and the idle time before it; and a whole epoch of the trainer."""
    from gpu_minivae import trainer_of
    from gpu_nodes import in_order

    cupy, w = gpu(), ALL[name]
    init, x, _ = common(w)
    trainer = trainer_of(w, init)
    steps = repeated(options, 3, 500)
    many = cupy.asarray(np.tile((255 * x).astype(np.uint8).reshape(len(x), *w.image), (steps, 1, 1, 1)))
    trainer.epoch(many)
    if not trainer.on_gpu.graphs:
        raise RuntimeError(f"the step is no graph: {trainer.on_gpu.why_eager}")
    start = time.perf_counter()
    trainer.epoch(many)
    yield {"workload": name, "epoch_microseconds_a_step": 1e6 * (time.perf_counter() - start) / steps}
    yield from ({"workload": name} | row for row in in_order(trainer.on_gpu.graphs[0], cupy, repeated(options, 2, 20)))


def costliest(rows: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """The kernels, by workload and size, that take the most time of a step in FP32."""
    found = [row for row in rows if "kernel" in row and row.get("precision") == "fp32" and math.isfinite(row["microseconds"])]
    best: dict[str, dict[str, Any]] = {}
    for row in sorted(found, key=lambda row: -row["launches"] * row["microseconds"]):
        best.setdefault(row["kernel"], row)
    return list(best.values())[:most]


def costliest_before(options: argparse.Namespace, most: int) -> list[dict[str, Any]]:
    return costliest(rows_before(options.out, "kernels"), most)
