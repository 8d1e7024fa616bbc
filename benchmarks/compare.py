"""minivae against PyTorch and JAX: one full training step (fresh noise, forward, objective, gradients, Adam) of the same VAE.

Each contestant runs in a process of its own: no two thread pools share one.  They are started one after the other, and then called in
turn, a short chunk of steps at a time (A B C, B C A, ...), while the others block on a pipe.  A ratio compares two chunks of the same
round, so that a machine whose clock or load changes slows both.  --restarts repeats it all with fresh processes, because where a heap
happens to lie makes PyTorch's convolutions up to 1.7 times slower.

A contestant is NAME=MODULE:FACTORY with factory(workload, init, x) -> (step, loss): step() trains once, step.sync() (where there is one)
waits for the last, loss(eps) is the loss at the initial parameters `init` for the noise eps, or loss is None.  The workload is a
minivae.cli.bench.Workload.  The first contestant is the one that the others are measured against.

Exit code 1: a contestant's first loss differs from the first one's, or the first contestant failed.
"""

import argparse
import contextlib
import importlib
import json
import math
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from report import Row, details, summary
from workloads import ALL, SWEEP, WORKLOADS, common

CONTESTANTS = {
    "minivae": "minivae_peer:factory",
    "torch": "peers_torch:eager",
    "torch-fused": "peers_torch:fused",
    "torch-compile": "peers_torch:compiled",
    "torch-compile-all": "peers_torch:compiled_all",
    "torch-autotune": "peers_torch:autotuned",
    "torch-nhwc": "peers_torch:channels_last",
    "torch-nhwc-compile": "peers_torch:channels_last_compiled",
    "jax": "peers_jax:threefry",
    "jax-rbg": "peers_jax:rbg",
}
ONLY_CONVOLUTIONS = {"torch-nhwc", "torch-nhwc-compile"}
# Equal parameters and noise give equal losses but for rounding.  A float32 sum of n positive terms, in any order, is off by at most
# n 2^-24 of itself, and by sqrt(n) 2^-24 as a rule; n is at most 4096 here, the layers before add as much: 2 sqrt(4096) 2^-24 = 8e-6.
# The KL divergence at the common parameters is at least 6e-4 of the loss: forgetting it shows.
TOLERANCE = 1e-5
SETTINGS_OF_BLAS = ("OPENBLAS_", "GOTO_", "MKL_", "BLIS_", "OMP_", "KMP_", "NUMBA_")  # an image may pin a slow kernel: users have no pin
POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
AVX2 = {  # everybody's compiler and library as on a processor without AVX-512
    "NUMBA_CPU_NAME": "x86-64-v3",
    "NUMBA_CPU_FEATURES": "",
    "ATEN_CPU_CAPABILITY": "avx2",
    "DNNL_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
}


# --- in a contestant's process -----------------------------------------------------------------------------------------------------


def memory(field: str) -> float:
    """MiB: "VmRSS" is what is resident now, "VmHWM" the most so far.  Without /proc both are the most so far."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def work(place: str, workload: str, threads: int) -> None:
    """Build a contestant, then read one JSON request a line and answer it, until the pipe closes."""
    if hasattr(os, "sched_setaffinity"):  # before any pool counts its processors
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    answers = os.fdopen(os.dup(1), "w", 1)
    os.dup2(2, 1)  # whatever a framework prints stays out of the answers
    sys.path.append(os.getcwd())
    module, _, name = place.partition(":")
    factory = getattr(importlib.import_module(module), name)
    w = ALL[workload]
    init, x, eps = common(w)
    imported = memory("VmRSS")
    start = time.perf_counter()
    step, loss = factory(w, init, x)
    sync = getattr(step, "sync", lambda: None)
    first_loss = loss(eps) if loss is not None else None
    del init, loss
    for _ in range(5):
        step()
    sync()
    ready = time.perf_counter() - start
    with contextlib.suppress(OSError):  # forget the compilers' peak
        Path("/proc/self/clear_refs").write_text("5")
    answers.write(json.dumps({"loss": first_loss, "start_seconds": ready}) + "\n")
    for line in sys.stdin:
        steps = json.loads(line)["steps"]
        step()  # wakes the pool, not timed
        sync()
        start = time.perf_counter()
        for _ in range(steps):
            step()
        sync()
        seconds = (time.perf_counter() - start) / steps
        peak = memory("VmHWM")
        answers.write(json.dumps({"seconds": seconds, "peak_mib": peak - imported, "process_mib": peak}) + "\n")


# --- in the driver -----------------------------------------------------------------------------------------------------------------


class Failed(Exception):
    """A contestant's process ended; the message is the last line it wrote."""


class Worker:
    """A contestant in a process of its own."""

    def __init__(self, place: str, workload: str, options: argparse.Namespace):
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (it lives as long as the process)
        command = [sys.executable, __file__, "--worker", place, "--workloads", workload, "--threads", str(options.threads)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment(options)
        )
        self.options, self.asked = options, time.monotonic()

    def warm_up(self) -> None:
        self.start = self.answer()
        self.ask(3)
        seconds = self.ask(3)["seconds"]
        self.steps = max(1, round(self.options.chunk / seconds))

    def ask(self, steps: int) -> dict[str, float]:
        assert self.process.stdin is not None
        self.asked = time.monotonic()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps({"steps": steps}) + "\n")
            self.process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        if self.options.deadline is not None:  # an answer is one line, asked for: it is not in Python's buffer yet
            patience = max(self.asked + self.options.deadline - time.monotonic(), 0)
            if not select.select([self.process.stdout], [], [], patience)[0]:
                self.process.kill()
                raise Failed(f"no answer in {self.options.deadline:g} seconds")
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        code = self.process.wait()
        self.log.seek(0)
        said = [line.strip() for line in self.log if line.strip()]
        raise Failed(said[-1] if said else f"exit code {code}")

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def environment(options: argparse.Namespace) -> dict[str, str]:
    """What a worker sees: no settings of BLAS but the threads and, if asked, AVX2; a heap that is never given back to the kernel."""
    found = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS_OF_BLAS)}
    found |= {name: str(options.threads) for name in POOLS} | (AVX2 if options.avx2 else {})
    if options.tune_malloc:  # glibc's default maps and unmaps every large array, and each step pays for the page faults
        found |= {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**32), "MALLOC_TOP_PAD_": str(2**28)}
    return found


@contextlib.contextmanager
def started(contestants: dict[str, str], workload: str, options: argparse.Namespace) -> Iterator[dict[str, Worker]]:
    """The workers that live; who fails is named, and removed from the contestants."""
    workers: dict[str, Worker] = {}
    try:
        if options.together:
            workers |= {name: Worker(place, workload, options) for name, place in contestants.items()}
        for name, place in list(contestants.items()):
            try:
                if not options.together:
                    workers[name] = Worker(place, workload, options)
                workers[name].warm_up()
            except Failed as error:
                leave_out(name, workload, error, contestants)
                workers.pop(name).close()
        yield workers
    finally:
        for worker in workers.values():
            worker.close()


def leave_out(name: str, workload: str, error: Failed, contestants: dict[str, str]) -> None:
    del contestants[name]
    print(f"{workload}: {name} is left out: {error}", flush=True)


def compare(workload: str, contestants: dict[str, str], options: argparse.Namespace) -> list[Row]:
    """A row of figures for each contestant that lasted."""
    contestants = {name: place for name, place in contestants.items() if ALL[workload].convs or name not in ONLY_CONVOLUTIONS}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    figures: dict[str, dict[str, Any]] = {}
    for restart in range(options.restarts):
        with started(contestants, workload, options) as workers:
            for name, worker in workers.items():
                figures.setdefault(name, worker.start)  # the first start: it compiles
            for turn in range(options.rounds):
                if turn and time.monotonic() > options.until:
                    break
                order = list(contestants)
                first = turn % max(len(order), 1)
                for name in order[first:] + order[:first]:
                    time.sleep(options.gap)  # spinning pools go to sleep
                    try:
                        answer = workers[name].ask(workers[name].steps)
                    except Failed as error:
                        leave_out(name, workload, error, contestants)
                        continue
                    seconds[name].append(answer["seconds"])
                    for field in ("peak_mib", "process_mib"):
                        figures[name][field] = max(answer[field], figures[name].get(field, 0))
                print(
                    f"\r{workload}: {restart * options.rounds + turn + 1} of {options.restarts * options.rounds} rounds",
                    end="",
                    file=sys.stderr,
                )
            print(file=sys.stderr)
    return [Row(workload, name, seconds=seconds[name], **figures[name]) for name in contestants]


def disagreements(rows: list[Row]) -> list[str]:
    """A sentence for each first loss that differs from the first contestant's."""
    sentences = []
    judge = next((row for row in rows if row.loss is not None), None)
    for row in rows:
        if row.loss is not None and judge is not None and not math.isclose(row.loss, judge.loss, rel_tol=TOLERANCE):
            sentences.append(
                f"{row.workload}: the first loss of {row.contestant} is {row.loss:.6f}, of {judge.contestant} {judge.loss:.6f}; they may "
                f"differ by {TOLERANCE:g} of it: the two do not do the same work"
            )
    return sentences


def chosen(names: list[str]) -> dict[str, str]:
    unknown = [name for name in names if "=" not in name and name not in CONTESTANTS]
    if unknown:
        sys.exit(f"unknown contestants: {', '.join(unknown)}; known are {', '.join(CONTESTANTS)}, others are NAME=MODULE:FACTORY")
    return dict(name.split("=", 1) if "=" in name else (name, CONTESTANTS[name]) for name in names)  # type: ignore[misc]


def main() -> int:
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser = argparse.ArgumentParser(description="minivae against PyTorch and JAX", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--workloads", nargs="+", choices=list(ALL), metavar="NAME", help=f"of {', '.join(ALL)}")
    parser.add_argument("--sweep", action="store_true", help=f"the workloads {', '.join(SWEEP)}: shapes that nobody tuned for")
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), metavar="NAME[=MODULE:FACTORY]", help="ours first")
    parser.add_argument("--rounds", type=int, default=15, help="turns of every contestant, a restart")
    parser.add_argument("--restarts", type=int, default=3, help="times that all begin again in fresh processes")
    parser.add_argument("--chunk", type=float, default=0.2, help="seconds of a turn")
    parser.add_argument("--gap", type=float, default=0.05, help="idle seconds between two turns")
    parser.add_argument("--threads", type=int, default=processors, help="threads of each; each is pinned to as many processors")
    parser.add_argument("--tune-malloc", action=argparse.BooleanOptionalAction, default=True, help="spare everybody the page faults")
    parser.add_argument("--avx2", action="store_true", help="nobody uses AVX-512, on a processor that has it")
    parser.add_argument("--deadline", type=float, metavar="SECONDS", help="who is silent for so long is left out; default: no limit")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every timing there")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.together, options.until = False, math.inf
    if options.worker:
        work(options.worker, options.workloads[0], options.threads)
        return 0
    contestants = chosen(options.contestants)
    ours = next(iter(contestants))
    rows, wrong = [], []
    for workload in options.workloads or (SWEEP if options.sweep else WORKLOADS):
        found = compare(workload, contestants, options)
        wrong += disagreements(found)
        if not found or found[0].contestant != ours:
            wrong.append(f"{workload}: {ours} failed, so there is nothing to compare with")
            continue
        print(details(found), flush=True)
        rows.append(found)
    if rows:
        print(summary(rows))
    if options.json is not None:
        flat = [vars(row) for found in rows for row in found]
        options.json.write_text(json.dumps({"threads": options.threads, "tuned_malloc": options.tune_malloc, "rows": flat}, indent=1))
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
