"""Section 3 of gpu.py: the tests marked gpu, the shortest first, a row each; a test that hangs or spoils the GPU costs itself alone.

pytest runs in a process of its own, without plugins of whoever set up the machine and with warnings that are none of ours left alone.
A test that is silent for too long is stopped, and one that leaves a CUDA error, which all later ones of its process would meet again, ends
the process; another goes on with the rest.  The table of ops, which compiles hundreds of small kernels of CuPy, comes last.
"""

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests" / "gpu" / "test_on_gpu.py"
FLAGS = [
    "-c",
    str(ROOT / "pyproject.toml"),
    "--rootdir",
    str(ROOT),
    "-o",
    "addopts=",
    "-o",
    "filterwarnings=default",
    "-W",
    "default",
    "-p",
    "no:cacheprovider",
    "-p",
    "gpu_tests",
    "--strict-markers",
]
FIRST = ("uniforms", "captured_draw", "memory_that_runs_out", "same_bits", "gradients_of_layers", "graph", "memory_does_not", "end_to_end")
LAST = "table_of_ops"
ON_THE_STAND_IN = (
    "captured_draw or (same_uniforms and not 1000003) or (graph_and_eager and (plain or clipped))"  # what is small enough there
)
SPOILT = ("CUDARuntimeError", "CUDADriverError", "cudaError", "CUDA_ERROR")
MOST = 6  # processes


def tests(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    done: list[str] = []
    for _ in range(MOST):
        before = len(done)
        for row in one_process(done, options):
            if "test" in row:
                done.append(row["test"])
            if row.get("all"):
                yield row
                return
            yield row
        if len(done) == before:  # it did not even begin: no other will
            yield {"failed": "pytest", "why": "it ended before its first test; log.txt has its words"}
            return
    yield {"note": f"{MOST} processes were spoilt or stopped; the rest is left out"}


def one_process(done: list[str], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The rows of the tests that are not done, until the process ends or is stopped; the last has "all" where none is left."""
    read, write = os.pipe()
    chosen = ["-k", ON_THE_STAND_IN] if options.dry_run else []
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "GPU_TESTS_ROWS": str(write), "GPU_TESTS_DONE": json.dumps(done)}
    if options.dry_run:
        environment |= {"GPU_TESTS_DRY_RUN": str(options.out)}
    command = [sys.executable, "-m", "pytest", *FLAGS, "-m", "gpu", *chosen, str(TESTS)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, pass_fds=[write], stdin=subprocess.DEVNULL, stdout=2)
    os.close(write)
    running, began, pending = "", time.monotonic(), b""
    try:
        while True:
            # until the first test begins nobody is impatient: a cold machine reads a lot of modules
            patience = (min(began + options.patience, options.until) if running else options.until) - time.monotonic()
            if not select.select([read], [], [], max(patience, 0.0))[0]:
                if time.monotonic() < options.until and running:
                    yield {"test": running, "seconds": time.monotonic() - began, "holds": False, "why": "it hangs, and was stopped"}
                else:
                    yield {"note": f"the section's time is over{', during ' + running if running else ''}", "all": True}
                return
            piece = os.read(read, 65536)
            if not piece:
                break
            *lines, pending = (pending + piece).split(b"\n")
            for line in lines:
                row = json.loads(line)
                if "begins" in row:
                    running, began = row["begins"], time.monotonic()
                else:
                    running, began = "", time.monotonic()
                    yield row
        code = process.wait(10)
        if running:  # it died in a test
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            yield {"test": running, "seconds": time.monotonic() - began, "holds": False, "why": f"its process ended by {how}"}
    finally:
        os.close(read)
        if process.poll() is None:
            process.kill()
            process.wait(10)


# --- as a plugin of that pytest ----------------------------------------------------------------------------------------------------


def tell(row: dict[str, Any]) -> None:
    os.write(int(os.environ["GPU_TESTS_ROWS"]), json.dumps(row).encode() + b"\n")


def rank(name: str) -> int:
    if LAST in name:
        return len(FIRST) + 1
    return next((i for i, part in enumerate(FIRST) if part in name), len(FIRST))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if folder := os.environ.get("GPU_TESTS_DRY_RUN"):
        import gpu_dry

        gpu_dry.install(argparse.Namespace(out=Path(folder)))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    done = set(json.loads(os.environ["GPU_TESTS_DONE"]))
    items[:] = sorted((item for item in items if item.nodeid not in done), key=lambda item: rank(item.name))


def pytest_runtest_logstart(nodeid: str) -> None:
    tell({"begins": nodeid})


_found: dict[str, dict[str, Any]] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    row = _found.setdefault(report.nodeid, {"test": report.nodeid, "seconds": 0.0, "holds": True, "why": ""})
    row["seconds"] += report.duration
    if report.skipped:
        row |= {"holds": None, "why": str(report.longrepr[-1]) if isinstance(report.longrepr, tuple) else "skipped"}
    if report.failed:
        text = report.longreprtext
        lines = [line for line in text.splitlines() if line.startswith("E ")] or text.splitlines()[-1:]
        row |= {"holds": False, "why": lines[0].removeprefix("E").strip() if lines else "", "traceback": text[-4000:]}
    if report.when == "teardown":
        tell(row)
        if row["holds"] is False and any(word in row.get("traceback", "") for word in SPOILT):
            pytest.exit("the test left a CUDA error", returncode=3)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus in (0, 1, 5):
        tell({"note": f"{session.testscollected} tests were left to run in the last process", "all": True})
