"""A dry run of gpu.py: the tests' stand-in for CuPy, with a clock, and stand-ins for NVIDIA's tools, which run what they are given.

Values, trainings, graphs and tests are real, at small sizes.  Times and the tools' figures are not those of any GPU.

    python benchmarks/gpu_dry.py [--names] [WORKLOAD ...]

counts the nodes of a captured training step: the library's kernels, and CuPy's own.
"""

import argparse
import os
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import gpu_minivae
from workloads import ALL, DRY  # noqa: F401  the workloads of a dry run, which a worker finds by name

from minivae.backend import set_backend
from minivae.kernels.gpu import launcher

CONTESTANTS = {  # ours on the stand-in, and in the place of PyTorch ours on the CPU
    "minivae-graph": "gpu_dry:graph",
    "minivae-eager": "gpu_dry:eager",
    "minivae-cpu": "gpu_dry:reference",
}
ATTRIBUTES = {"MemoryClockRate": 1_000_000, "GlobalMemoryBusWidth": 64, "ClockRate": 1_000_000, "MultiProcessorCount": 1}

SANITIZER = """#!{python}
import subprocess, sys
done = subprocess.run(sys.argv[sys.argv.index({python!r}):])
print("========= COMPUTE-SANITIZER")
race = "racecheck" in sys.argv
print("========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)" if race else "========= ERROR SUMMARY: 0 errors")
sys.exit(done.returncode)
"""
NCU = """#!{python}
import json, subprocess, sys
done = subprocess.run(sys.argv[sys.argv.index({python!r}):], stdout=subprocess.PIPE, text=True)
print(done.stdout, end="")
metrics = sys.argv[sys.argv.index("--metrics") + 1].split(",") + {figures!r}
print("==PROF== Disconnected from process 1")
quoted = lambda row: ",".join(chr(34) + str(cell) + chr(34) for cell in row)
print(quoted(["ID", "Kernel Name", *metrics]))
print(quoted(["", "", *["ns" if "time" in name else "" for name in metrics]]))
for i, name in enumerate(json.loads(done.stdout.splitlines()[-1])):
    print(quoted([i, name, *["1,000" if "time" in metric else "10" for metric in metrics]]))
sys.exit(done.returncode)
"""


def install(options: argparse.Namespace) -> Any:
    """CuPy is the stand-in from here on, and the tools are on the path."""
    from tests.gpu.host import fake_cupy

    cupy = fake_cupy.module()
    cupy.__dict__["__version__"] = "none: the stand-in"
    with_a_clock(cupy)
    fake_cupy.Graph.timed = timed
    sys.modules["cupy"] = cupy
    launcher.set_device(None)
    set_backend("numpy")  # the references serve the CPU: what numba would compile for a minute runs for a second here
    os.environ["PATH"] = f"{tools(options)}{os.pathsep}{os.environ.get('PATH', '')}"
    return cupy


def with_a_clock(cupy: Any) -> None:
    cuda = cupy.cuda
    own = cuda.Device

    def device() -> Any:
        return types.SimpleNamespace(id=0, attributes=ATTRIBUTES, compute_capability="90", synchronize=own().synchronize)

    cuda.Device, cuda.Event = device, Event
    cuda.get_elapsed_time = lambda start, end: 1e3 * (end.at - start.at)
    cuda.runtime.driverGetVersion = cuda.runtime.runtimeGetVersion = lambda: 0


class Event:
    def record(self, stream: Any) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        pass


def timed(graph: Any, repeats: int) -> list[tuple[str, float, float]]:
    """(name, start, duration), in microseconds, of each node of so many launches."""
    events = []
    for _ in range(repeats):
        for operation in [operation for operation in graph.operations if operation.node]:
            start = time.perf_counter()
            operation.run()
            events.append((getattr(operation.run, "__name__", "?"), 1e6 * start, 1e6 * (time.perf_counter() - start)))
    return events


def tools(options: argparse.Namespace) -> str:
    """The folder of the stand-ins for compute-sanitizer and ncu."""
    from gpu_tools import FIGURES, LIMITS

    folder = options.out.resolve() / "stand-in"
    if not folder.exists():
        folder.mkdir(parents=True)
        figures = sorted({*FIGURES.values(), *LIMITS.values(), "smsp__average_warps_issue_stalled_barrier_per_issue_active.ratio"})
        for name, text in (("compute-sanitizer", SANITIZER), ("ncu", NCU)):
            (folder / name).write_text(text.format(python=sys.executable, figures=figures))
            (folder / name).chmod(0o755)
    return str(folder)


def contestant(factory: Callable[..., Any]) -> Callable[..., Any]:
    """A contestant of gpu_minivae on the stand-in, in a worker's process."""

    def started(*arguments: Any) -> Any:
        install(argparse.Namespace(out=Path(tempfile.gettempdir()) / f"minivae-stand-in-{os.getuid()}"))
        return factory(*arguments)

    return started


def reference(*arguments: Any) -> Any:
    """minivae on the CPU, by the references."""
    from minivae_peer import factory

    set_backend("numpy")
    return factory(*arguments)


graph = contestant(gpu_minivae.graph)
eager = contestant(gpu_minivae.eager)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", action="store_true", help="name each node as well")
    parser.add_argument("workloads", metavar="WORKLOAD", nargs="*", default=["mlp", "iwae1", "iwae50", "conv", "burgess"])
    asked = parser.parse_args()
    cupy = install(argparse.Namespace(out=Path(tempfile.gettempdir()) / f"minivae-stand-in-{os.getuid()}"))
    from tests.gpu.host.nodes import captured_nodes

    print(f"{'workload':10s}{'nodes':>6s}{'kernels':>9s}{'of CuPy':>9s}")
    for name in asked.workloads:
        ours, others = captured_nodes(cupy, ALL[name])
        print(f"{name:10s}{len(ours) + len(others):6d}{len(ours):9d}{len(others):9d}", flush=True)
        if asked.names:
            print(f"    {' '.join(ours)}\n    {' '.join(others)}", flush=True)


if __name__ == "__main__":
    main()
