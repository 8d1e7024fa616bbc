"""Sections 6 and 7 of gpu.py: what NVIDIA's tools say of the kernels.  A tool that is not there is named, and left out."""

import argparse
import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PLACES = (
    "/usr/local/cuda*/bin",
    "/usr/local/cuda*/compute-sanitizer",
    "/opt/nvidia/nsight-compute/*",
    "/opt/nvidia/nsight-compute/*/host/*",
)
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
FAULT = 86  # exit code of compute-sanitizer that found something


def tool(name: str) -> str | None:
    """The path of an NVIDIA tool: of the command line's, else where CUDA's installers put it."""
    found = [shutil.which(name)] + [str(path) for place in PLACES for path in sorted(Path("/").glob(f"{place[1:]}/{name}"), reverse=True)]
    return next((path for path in found if path and os.access(path, os.X_OK)), None)


def run(command: list[str], options: argparse.Namespace) -> tuple[str, str, str]:
    """(stdout, stderr, why it ended early) of a tool, which gets the rest of the section's time."""
    environment = os.environ | ({"GPU_SMALL_DRY_RUN": "1"} if options.dry_run else {})
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    try:
        out, err = process.communicate(timeout=max(options.until - time.monotonic(), 1.0))
        why = f"killed by signal {-process.returncode}" if process.returncode < 0 else ""
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        why = "the section's time was over before it was done"
    print(err[-20000:], file=sys.stderr)
    return out, err, why


def target(options: argparse.Namespace, *arguments: str) -> list[str]:
    return [sys.executable, str(HERE / "gpu_small.py"), str(options.out), *arguments]


def launched(out: str) -> list[str]:
    """The kernels that the target says it launched."""
    lines = [line for line in out.splitlines() if line.startswith("[") and line.endswith("]")]
    return json.loads(lines[-1]) if lines else []


# --- 6: compute-sanitizer ----------------------------------------------------------------------------------------------------------


def sanitizer(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    path = tool("compute-sanitizer")
    if path is None:
        yield {"note": "compute-sanitizer is not on the path, nor with CUDA under /usr/local: left out"}
        return
    with ThreadPoolExecutor(len(TOOLS)) as pool:  # all at once: most of their time they start Python
        jobs = {name: pool.submit(sanitized, path, name, options) for name in TOOLS}
        for job in jobs.values():
            yield job.result()


def sanitized(path: str, name: str, options: argparse.Namespace) -> dict[str, Any]:
    start = time.monotonic()
    command = [path, "--tool", name, "--error-exitcode", str(FAULT), "--print-limit", "20", *target(options, "every")]
    out, err, why = run(command, options)
    text = f"{out}\n{err}"
    faults, about = errors_of(text)
    row = {"what": name, "seconds": time.monotonic() - start, "kernels": len(launched(out)), "faults": faults, "about": about}
    if faults is None:
        return row | {"holds": False, "why": why or next((line for line in reversed(text.splitlines()) if line.strip()), "it said nothing")}
    why = why or ("" if faults == 0 else f"{faults} faults; {about[0] if about else 'none is described'}")
    if not why and not row["kernels"]:
        why = "it launched no kernel"
    return row | {"holds": not why, "why": why}


def errors_of(text: str) -> tuple[int | None, list[str]]:
    """How many faults compute-sanitizer reports, or None where it gives no summary; and what it says of the first few of them.

    Racecheck calls them hazards, "3 hazards displayed (2 errors, 1 warning)": each counts, a warning too.
    """
    totals = re.findall(r"^=+ (?:ERROR|RACECHECK) SUMMARY: (\d+) (?:errors?|hazards?)", text, re.MULTILINE)
    blocks: list[str] = []
    for line in text.splitlines():
        if not line.startswith("========="):
            continue
        said = line.removeprefix("=========")
        if re.match(r" (Invalid|Uninitialized|Error|Warning|Race|Barrier|Potential|Program hit|Unused|Misaligned|Leaked|Target)", said):
            blocks.append(said.strip())
        elif blocks and re.match(r"\s{4,}(at|by|and|in|Address|Write|Read) ?", said) and blocks[-1].count(";") < 4:
            blocks[-1] += f"; {said.strip()}"
    kept = [block for block in blocks if not re.fullmatch(r"(ERROR|RACECHECK) SUMMARY.*", block)]
    return (max(map(int, totals)) if totals else None), kept[:10]


# --- 7: Nsight Compute -------------------------------------------------------------------------------------------------------------

NCU_SECTIONS = ("SpeedOfLight", "LaunchStats", "Occupancy", "MemoryWorkloadAnalysis", "WarpStateStats", "SchedulerStats")
NCU_METRICS = (
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_ld.sum",
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_st.sum",
    "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_ld.sum",
    "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_st.sum",
    "l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum",
    "l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum",
    "l1tex__t_sectors_pipe_lsu_mem_global_op_st.sum",
    "l1tex__t_requests_pipe_lsu_mem_global_op_st.sum",
    "smsp__sass_average_data_bytes_per_sector_mem_global_op_ld.pct",
    "smsp__sass_average_data_bytes_per_sector_mem_global_op_st.pct",
)
FIGURES = {  # ours: theirs
    "microseconds": "gpu__time_duration.sum",
    "occupancy": "sm__warps_active.avg.pct_of_peak_sustained_active",
    "occupancy_possible": "sm__maximum_warps_per_active_cycle_pct",
    "registers": "launch__registers_per_thread",
    "shared_bytes": "launch__shared_mem_per_block_static",
    "waves": "launch__waves_per_multiprocessor",
    "compute": "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    "memory": "gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed",
    "dram": "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed",
    "coalesced_loads": "smsp__sass_average_data_bytes_per_sector_mem_global_op_ld.pct",
    "coalesced_stores": "smsp__sass_average_data_bytes_per_sector_mem_global_op_st.pct",
}
LIMITS = {"registers": "launch__occupancy_limit_registers", "shared memory": "launch__occupancy_limit_shared_mem"}
LIMITS |= {"warps": "launch__occupancy_limit_warps", "blocks": "launch__occupancy_limit_blocks"}
STALL = re.compile(
    r"smsp__average_warps_issue_stalled_(\w+?)_per_issue_active\.ratio|smsp__average_warp_latency_issue_stalled_(\w+)\.ratio"
)
TO_MICROSECONDS = {"ns": 1e-3, "nsecond": 1e-3, "us": 1.0, "usecond": 1.0, "ms": 1e3, "msecond": 1e3, "s": 1e6, "second": 1e6}


def profile(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    path = tool("ncu")
    if path is None:
        yield {"note": "ncu (Nsight Compute) is not on the path, nor under /opt/nvidia: left out"}
        return
    metrics = list(NCU_METRICS)
    workloads = options.workloads or (["dry-conv"] if options.dry_run else ["burgess", "conv"])
    for _ in range(2):
        out, err, why = run([*ncu(path, metrics), *target(options, "costly", *workloads)], options)
        rows = kernels_of_csv(out)
        unknown = [name for name in metrics if re.search(rf"(?i)(failed|unknown|not find|invalid).*{re.escape(name)}", f"{out}\n{err}")]
        if rows or not unknown:
            break
        yield {"note": f"ncu does not know {', '.join(unknown)}; once more without"}
        metrics = [name for name in metrics if name not in unknown]
    for row in rows:
        yield reading(row)
    if not rows:
        words = [line for line in f"{err}\n{out}".splitlines() if line.startswith("==ERROR==") or "rror" in line]
        yield {
            "failed": "ncu",
            "why": why or (words[0] if words else "it profiled no kernel"),
            "traceback": f"{err[-3000:]}\n{out[-1000:]}",
        }
    elif why:
        yield {"note": f"ncu: {why}"}


def ncu(path: str, metrics: list[str]) -> list[str]:
    """The clocks are left as they are: locking them needs rights, and outlasts a profiler that is killed."""
    sections = [part for name in NCU_SECTIONS for part in ("--section", name)]
    chosen = [*sections, "--metrics", ",".join(metrics)] if metrics else sections
    return [path, "--csv", "--page", "raw", "--clock-control", "none", "--profile-from-start", "off", *chosen]


def kernels_of_csv(text: str) -> list[dict[str, tuple[str, str]]]:
    """{metric: (value, unit)} of each kernel by `ncu --csv --page raw`: a line of names, one of units, one for each launch."""
    lines = [line for line in text.splitlines() if line.startswith('"')]
    table = list(csv.reader(lines))
    start = next((i for i, row in enumerate(table) if "Kernel Name" in row), None)
    if start is None or len(table) < start + 3:
        return []
    names, units = table[start], table[start + 1]
    return [dict(zip(names, zip(row, units, strict=False), strict=False)) for row in table[start + 2 :] if len(row) == len(names)]


def number(row: dict[str, tuple[str, str]], name: str) -> float:
    try:
        return float(row[name][0].replace(",", ""))
    except (KeyError, ValueError):  # a metric that this GPU has not
        return math.nan


def reading(row: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """The figures of a kernel that say what to do about it, and a word for what limits it."""
    found: dict[str, Any] = {"kernel": row["Kernel Name"][0].split("(")[0]}
    found |= {ours: number(row, theirs) for ours, theirs in FIGURES.items()}
    found["microseconds"] *= TO_MICROSECONDS.get(row.get(FIGURES["microseconds"], ("", "ns"))[1], 1e-3)
    for way, name in (("ld", "loads"), ("st", "stores")):
        conflicts, wavefronts, sectors, requests = (
            number(row, f"l1tex__{what}_{way}.sum")
            for what in (
                "data_bank_conflicts_pipe_lsu_mem_shared_op",
                "data_pipe_lsu_wavefronts_mem_shared_op",
                "t_sectors_pipe_lsu_mem_global_op",
                "t_requests_pipe_lsu_mem_global_op",
            )
        )
        found[f"bank_conflicts_{name}"] = conflicts / wavefronts if wavefronts else 0.0
        found[f"sectors_a_request_{name}"] = sectors / requests if requests else 0.0
    limits = {name: number(row, theirs) for name, theirs in LIMITS.items()}
    limits = {name: value for name, value in limits.items() if math.isfinite(value)}
    found["occupancy_limit"] = min(limits, key=lambda name: limits[name]) if limits else ""
    stalls = {next(filter(None, match.groups())): number(row, name) for name in row if (match := STALL.fullmatch(name))}
    stalls = {name: value for name, value in stalls.items() if math.isfinite(value)}
    stalls.pop("selected", None)
    found["stalls"] = dict(sorted(stalls.items(), key=lambda item: -item[1])[:4])
    found["limited_by"] = limited_by(found)
    return {key: (None if isinstance(value, float) and not math.isfinite(value) else value) for key, value in found.items()}


def limited_by(found: dict[str, Any]) -> str:
    """The unit that is busiest, if one is busy for 60% of the time, as Nsight Compute has it; else latency, and what is waited for."""
    busiest = max(("compute", "memory"), key=lambda what: found[what] if math.isfinite(found[what]) else -1.0)
    if math.isfinite(found[busiest]) and found[busiest] >= 60:
        return busiest
    if math.isfinite(found["waves"]) and found["waves"] < 1:
        return f"a grid of {found['waves']:.2f} waves"
    return f"latency: {next(iter(found['stalls']), 'of what is not said')}"
