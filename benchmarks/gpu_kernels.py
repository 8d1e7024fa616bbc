"""How near each kernel of a training step comes to what the GPU can do: launches of one step, work by their arguments, time by CUDA events.

A launch's traffic is its arrays, each moved once (those that are read and written, twice); its operations are those of the product that
it is.  Its share is that of the tighter bound: the larger of traffic / bandwidth and operations / peak, over the time it took.  A small
array stays in the GPU's cache between launches, so that a share of the bandwidth may exceed 1.
"""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minivae import Stream, use_backend
from minivae.cli.bench import Workload, flops, objective, vae
from minivae.kernels.gpu.launcher import Kernel

BOTH_WAYS = {"adam": ("p", "m", "v"), "gru_step_gradient": ("carry",), "lstm_step_gradient": ("carry",)}  # read and written
# operations a clock of one multiprocessor, by compute capability: FP32 multiply-adds, and dense TF32 on tensor cores (CUDA C++ Programming
# Guide, throughput of arithmetic instructions; architecture white papers of A100, H100 and B200)
PER_CLOCK = {"80": (128, 1024), "86": (256, 256), "89": (256, 256), "90": (256, 2048), "100": (256, 4096), "120": (256, 256)}
# what an H200's driver says of its clocks (kHz), units and bus (bits), where another's does not say one of them
H200 = {"MemoryClockRate": 3_201_000, "GlobalMemoryBusWidth": 6144, "ClockRate": 1_980_000, "MultiProcessorCount": 132}
REPEATS = 20
VIEWS = ("reshape", "split", "transpose", "getitem", "broadcast_to")  # ops whose numbers are another's


def operations(name: str, given: dict[str, Any]) -> float:
    """Multiplications and additions of a kernel that is a product; 0 of one that moves numbers.  Taps on padding count."""
    if name.startswith("gemm"):
        batch = given["batch"].count if "batch" in given else 1
        return 2.0 * batch * given["M"] * given["N"] * given["K"]
    if name.startswith("dense"):
        return 2.0 * given["N"] * given["I"] * given["O"] * sum(given[which] is not None for which in ("gx", "gw"))
    if name.startswith(("conv", "fold", "few")):
        s = given["geometry"]
        return 2.0 * s.outputs * s.taps * s.O if given.get("gw", s) is not None else 0.0
    return 0.0


def traffic(kernel: Kernel, given: dict[str, Any]) -> float:
    """Bytes."""
    lengths = kernel.plan(*given.values())[2]
    total = 0.0
    for (_, parameter), length in zip(kernel.arrays, lengths, strict=True):
        if given[parameter.name] is not None and parameter.name != "arrived":
            both = parameter.name in ("partial", *BOTH_WAYS.get(kernel.name, ()))  # what parts leave in memory is read again
            total += length * parameter.dtype.itemsize * (2 if both else 1)
    if "gradients" in given:  # a table of arrays
        table = given["gradients"].record[0]
        total += 4.0 * int(table["size"][: int(table["count"])].sum())
    return total


class Launches(list):
    """(kernel, arguments), and the memory that they refer to: a table of gradients has their addresses alone."""

    def __init__(self) -> None:
        self.memory: list[Any] = []

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Whatever is allocated inside lives as long as the launches."""
        if "cupy" not in sys.modules:
            yield
            return
        cupy = sys.modules["cupy"]
        pool = cupy.get_default_memory_pool()

        def allocate(size: int) -> Any:
            self.memory.append(pool.malloc(size))
            return self.memory[-1]

        with cupy.cuda.using_allocator(allocate):
            yield


@contextmanager
def watched() -> Iterator[Launches]:
    """The launches that are made inside, which can be repeated."""
    calls = Launches()
    launch = Kernel.__call__

    def noted(self: Kernel, *arguments: Any) -> None:
        calls.append((self, arguments))
        launch(self, *arguments)

    Kernel.__call__ = noted  # type: ignore[method-assign]
    try:
        with calls.keeping():
            yield calls
    finally:
        Kernel.__call__ = launch  # type: ignore[method-assign]


def grouped(calls: list[tuple[Kernel, tuple]]) -> dict[Any, list[tuple[Kernel, tuple]]]:
    """Launches of the same kernel with the same sizes."""
    groups: dict[Any, list[tuple[Kernel, tuple]]] = {}
    for kernel, arguments in calls:
        sizes = tuple(getattr(a, "shape", None) or (a if isinstance(a, int | float) else str(getattr(a, "record", a))) for a in arguments)
        groups.setdefault((kernel.name, sizes), []).append((kernel, arguments))
    return groups


def measured(calls: list[tuple[Kernel, tuple]], seconds: Callable[[Kernel, tuple], float], peaks: dict[str, float]) -> list[dict[str, Any]]:
    """A row for each kernel and size, the most time first."""
    rows = []
    for (name, _), group in grouped(calls).items():
        kernel, arguments = group[0]
        given = dict(zip([p.name for p in kernel.parameters], arguments, strict=True))
        work, moved, took = operations(name, given), traffic(kernel, given), seconds(kernel, arguments)
        peak = peaks.get("tf32" if name.endswith("_tf32") else "fp32", math.nan)
        floors = {"bandwidth": moved / peaks["bandwidth"], "operations": work / peak if work else 0.0}
        bound = max(floors, key=lambda of: 0.0 if math.isnan(floors[of]) else floors[of])
        rows.append(
            {
                "kernel": name,
                "launches": len(group),
                "microseconds": 1e6 * took,
                "gigaflop_per_second": work / took / 1e9,
                "gigabyte_per_second": moved / took / 1e9,
                "bound": bound,
                "share": floors[bound] / took,
            }
        )
    return sorted(rows, key=lambda row: -row["launches"] * row["microseconds"])


def work_of(w: Workload) -> tuple[float, float]:
    """(operations, bytes) that no step of a workload can do without.

    Operations: of its products.  Bytes: of a parameter 40 (its gradient written and read; p, m and v read and written by Adam; p read by
    forward and backward); of any other number in the graph 16 (value and gradient, each written and read).
    """
    with use_backend("numpy"):
        model = vae(w, Stream(0))
        loss = objective(w, model, np.zeros((w.batch, *w.image), np.float32), Stream(1))
    seen, pending = {loss}, [loss]
    while pending:
        fresh = {parent for parent in pending.pop().parents if parent is not None} - seen
        seen |= fresh
        pending += fresh
    parameters = sum(p.size for p in model.parameters())
    numbers = sum(t.size for t in seen if isinstance(t.data, np.ndarray) and t.op is not None and t.op.name not in VIEWS)
    return float(flops(loss)), 40.0 * parameters + 16.0 * numbers


def floor(work: float, moved: float, peaks: dict[str, float]) -> dict[str, float]:
    """{"fp32": seconds, "tf32": ...}: the products at the peak, or the bytes at the bandwidth, whichever takes longer."""
    return {p: max(moved / peaks["bandwidth"], work / peaks[p]) for p in ("fp32", "tf32") if p in peaks}


# --- on the GPU --------------------------------------------------------------------------------------------------------------------


def by_events(cupy: Any, repeated: Callable[[], None], repeats: int) -> float:
    """Seconds of one of the `repeats` things that repeated() launches, as one graph: no launch from Python lies between."""
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    with stream:
        stream.begin_capture()
        repeated()
        graph = stream.end_capture()
        graph.launch(stream)
        times = []
        for _ in range(5):
            start, end = cupy.cuda.Event(), cupy.cuda.Event()
            start.record(stream)
            graph.launch(stream)
            end.record(stream)
            end.synchronize()
            times.append(cupy.cuda.get_elapsed_time(start, end))
    return 1e-3 * float(np.median(times)) / repeats


def timer(cupy: Any, repeats: int = REPEATS) -> Callable[[Kernel, tuple], float]:
    def seconds(kernel: Kernel, arguments: tuple) -> float:
        kernel(*arguments)  # compiled, if it was not

        def repeated() -> None:
            for _ in range(repeats):
                kernel(*arguments)

        return by_events(cupy, repeated, repeats)

    return seconds


def peaks_of(attributes: dict[str, int], capability: str) -> dict[str, float]:
    """{"bandwidth": bytes, "fp32": operations, "tf32": operations} a second, by what the driver says of clocks (kHz), units and bus (bits).

    Memory moves data twice a clock.  The operations are left out where the generation is not in PER_CLOCK.
    """
    peaks = {"bandwidth": 2e3 * attributes["MemoryClockRate"] * attributes["GlobalMemoryBusWidth"] / 8}
    clocks = 1e3 * attributes["ClockRate"] * attributes["MultiProcessorCount"]
    return peaks | dict(zip(("fp32", "tf32"), [clocks * n for n in PER_CLOCK.get(capability, ())], strict=False))


def copy_bandwidth(cupy: Any, numbers: int = 2**28) -> float:
    """Bytes a second, read and written, of a copy that no cache holds."""
    a = cupy.zeros(numbers, np.float32)
    b = cupy.empty_like(a)

    def repeated() -> None:
        for _ in range(4):
            b[...] = a

    repeated()  # its kernel is compiled
    return 2 * a.nbytes / by_events(cupy, repeated, 4)
