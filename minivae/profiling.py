"""Where the time of a training step goes: each kernel's time, operations and bytes, beside what this machine can do.

    step = mv.captured(lambda x: elbo(model, x, noise), params)
    print(mv.profile(lambda: step(x)))

A kernel is bound by arithmetic or by memory, whichever takes longer at the machine's best: S. Williams, A. Waterman and D. Patterson,
"Roofline: an insightful visual performance model for multicore architectures", 2009.
"""

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from .errors import UsageError
from .kernels.cpu import ahead, jit, watch
from .kernels.cpu import peak as best

# multiply-adds of a kernel's products, from its arguments by name; whatever else it computes is left out, as in FLOP counts elsewhere
PRODUCTS: dict[str, Callable[..., int]] = {
    "_gemm": lambda c, K, **_: c.size * K,
    "_dense_vjp": lambda gs, x, gx, gw, **_: gs.size * x.shape[1] * ((gx.size > 0) + (gw.size > 0)),
    "_correlate": lambda x, y, phases, **_: len(x) * y.shape[3] * int((phases[:, 1] * phases[:, 3]).sum()),  # pixels an image, taps
    "_weight_gradient": lambda g, taps, **_: g.size * len(taps),
    "_multiply_and_scatter": lambda g, gx, kernel_size, **_: g.size * kernel_size[0] * kernel_size[1] * gx.shape[3],
}
SMALL = 0.002  # of a step: calls below it share a line of the table
WORKSPACE = {"buffers", "buffer", "counters", "runs", "x_runs", "w_runs", "partial", "packed", "tables", "rows", "c_rows", "columns"}
WORKSPACE |= {"weights", "phases", "taps", "pixels", "zeros", "one", "no_bias", "layout", "addresses"}  # small, or in a cache


@dataclass(frozen=True)
class Line:
    """One call of a kernel in every step."""

    number: int  # among the calls of the step
    kernel: str
    shapes: str  # of its largest arrays
    seconds: float  # median over the steps
    best: float
    flops: int
    bytes: int  # each array once, whatever the caches do


@dataclass(frozen=True)
class Profile:
    """The calls of a step in their order; `seconds` is the median of the whole step, `peak` in FLOP/s, `bandwidth` in bytes/s."""

    lines: tuple[Line, ...]
    seconds: float
    peak: float
    bandwidth: float

    @property
    def rest(self) -> float:
        """Seconds between the kernels: Python, NumPy, allocations."""
        return max(0.0, self.seconds - sum(line.seconds for line in self.lines))

    def floor(self, line: Line) -> float:
        """The least seconds that this machine could need for it."""
        return max(line.flops / self.peak, line.bytes / self.bandwidth)

    def __str__(self) -> str:
        head = f"{'kernel':22s}{'its largest arrays':30s}{'ms':>9s}{'best':>9s}{'share':>7s}{'GFLOP/s':>9s}{'GB/s':>7s}{'of the roof':>13s}"
        rows, small = [head], [line for line in self.lines if line.seconds < SMALL * self.seconds]
        for line in sorted(set(self.lines) - set(small), key=lambda line: -line.seconds):
            rate = f"{line.flops / line.seconds / 1e9:9.1f}" if line.flops else f"{'':9s}"
            rows.append(
                f"{line.kernel:22s}{line.shapes:30s}{1e3 * line.seconds:9.3f}{1e3 * line.best:9.3f}{line.seconds / self.seconds:7.1%}{rate}"
                f"{line.bytes / line.seconds / 1e9:7.1f}{self.floor(line) / line.seconds:13.0%}"
            )
        if small:
            together = sum(line.seconds for line in small)
            rows.append(f"{f'{len(small)} shorter calls':52s}{1e3 * together:9.3f}{'':9s}{together / self.seconds:7.1%}")
        rows.append(f"{'between the kernels':52s}{1e3 * self.rest:9.3f}{'':9s}{self.rest / self.seconds:7.1%}")
        rows.append(f"{'a step':52s}{1e3 * self.seconds:9.3f}")
        rows.append(
            f"this machine, {jit.threads()} threads: {self.peak / 1e9:.0f} GFLOP/s from registers, "
            f"{self.bandwidth / 1e9:.1f} GB/s from memory (a cache gives more)"
        )
        return "\n".join(rows)


def profile(step: Callable[[], Any], repeats: int = 60) -> Profile:
    """Time the CPU kernels of `step()`, which makes the same calls every time, as a training step does.

    A few steps run first, unmeasured: they compile and record.  Raises UsageError where two steps call different kernels.
    """
    for _ in range(5):
        step()
    ahead.end()
    totals, steps = [], []
    for _ in range(repeats):
        with watch.timed() as calls:
            start = time.perf_counter()
            step()
            totals.append(time.perf_counter() - start)
        steps.append(calls)
    names = [call.function.__name__ for call in steps[0]]
    for calls in steps[1:]:
        if (others := [call.function.__name__ for call in calls]) != names:
            raise UsageError(
                f"profile: one step called {len(names)} kernels, another {len(others)}, or others; need a step that does the same each time"
            )
    seconds = np.array([[call.seconds for call in calls] for calls in steps]).reshape(repeats, len(names))
    lines = [_line(n, call, float(np.median(seconds[:, n])), float(seconds[:, n].min())) for n, call in enumerate(steps[-1])]
    return Profile(tuple(lines), float(np.median(totals)), *machine())


@cache
def machine() -> tuple[float, float]:
    """(FLOP/s, bytes/s) at most, with the threads that there are."""
    return 1e9 * best.peak(jit.threads(), 0.3), 1e9 * best.bandwidth(0.5)


def _line(n: int, call: Any, median: float, best: float) -> Line:
    names = list(inspect.signature(call.function).parameters)
    given = dict(zip(names, call.arguments, strict=True))
    arrays = {name: a for name, a in given.items() if isinstance(a, np.ndarray) and name not in WORKSPACE}
    products = PRODUCTS.get(call.function.__name__)
    memory = sum(a.nbytes for a in {a.__array_interface__["data"][0]: a for a in arrays.values()}.values())
    if "addresses" in given:  # Adam: every gradient is read, p, m and v are read and written
        memory = int(given["layout"][:, 1].sum()) * 28
    largest = sorted(arrays.values(), key=lambda a: -a.size)[:2]
    shapes = " ".join("x".join(map(str, a.shape)) for a in largest)
    name = call.function.__name__.strip("_").removesuffix("_parallel")
    return Line(n, name, shapes, median, best, 2 * int(products(**given)) if products else 0, memory)
