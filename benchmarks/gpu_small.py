"""What the tools of sections 6 and 7 run: small launches of every kernel, or the five costliest ones at the size that they have.

    python gpu_small.py FOLDER every                   # compute-sanitizer
    python gpu_small.py FOLDER costly [WORKLOAD ...]   # ncu --profile-from-start off: each is launched once between start and stop

The last line is JSON: the kernels that were launched, in their order.
"""

import contextlib
import json
import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from gpu_kernels import grouped, watched
from workloads import ALL, common

from minivae.backend import gpu
from minivae.kernels.gpu.launcher import Kernel

MOST = 5  # kernels to profile


def every(few: bool) -> list[str]:
    """One small launch, or a few, of each kernel; every array in an allocation of its own, so that a step beyond its end is seen."""
    from gpu_check import LAYERS, check

    cupy = gpu()
    if hasattr(cupy.cuda, "set_allocator"):
        cupy.cuda.set_allocator(None)
    with watched() as calls:
        wrong = [row["what"] for row in check(small=True, layers=LAYERS[:1] if few else LAYERS) if not row["holds"]]
    cupy.cuda.Device().synchronize()
    print(f"{len(wrong)} checks are wrong: {', '.join(wrong)}" if wrong else "every check holds", file=sys.stderr)
    return sorted({kernel.name for kernel, _ in calls})


def costly(folder: Path, workloads: list[str]) -> list[str]:
    """The kernels that section 5 found to take the most time; without it, those that the workloads launch with the most numbers."""
    from gpu_minivae import trainer_of
    from gpu_sections import costliest_before

    cupy = gpu()
    wanted = [(row["workload"], row["kernel"]) for row in costliest_before(Namespace(out=folder), MOST)]
    chosen: list[tuple[Kernel, tuple]] = []
    every_call = []  # whose memory the launches refer to
    for name in dict.fromkeys([workload for workload, _ in wanted] or workloads):
        w = ALL[name]
        init, x, _ = common(w)
        trainer = trainer_of(w, init)
        there = cupy.asarray(x.reshape(len(x), *w.image))
        trainer.step(there)
        with watched() as calls:
            trainer.step(there)
        every_call.append(calls)
        groups = sorted(grouped(calls).values(), key=lambda group: -len(group) * weight(group[0][1]))
        for kernel in [kernel for workload, kernel in wanted if workload == name] or [group[0][0].name for group in groups]:
            group = next((group for group in groups if group[0][0].name == kernel), None)
            if group is not None and len(chosen) < MOST and kernel not in [other.name for other, _ in chosen]:
                chosen.append(group[0])
    cupy.cuda.Device().synchronize()
    with profiled(cupy):
        for kernel, arguments in chosen:
            kernel(*arguments)
        cupy.cuda.Device().synchronize()
    return [kernel.name for kernel, _ in chosen]


def weight(arguments: tuple) -> int:
    return sum(int(a.size) for a in arguments if hasattr(a, "size"))


@contextlib.contextmanager
def profiled(cupy: Any) -> Any:
    start, stop = (getattr(cupy.cuda.runtime, f"profiler{what}", lambda: None) for what in ("Start", "Stop"))
    start()
    try:
        yield
    finally:
        stop()


if __name__ == "__main__":
    place = Path(sys.argv[1])
    dry_run = bool(os.environ.get("GPU_SMALL_DRY_RUN"))
    if dry_run:
        import gpu_dry

        gpu_dry.install(Namespace(out=place))
    names = every(few=dry_run) if sys.argv[2] == "every" else costly(place, sys.argv[3:])
    print(json.dumps(names), flush=True)
    os._exit(0)
