"""The tables of gpu.py, a section each, of the rows that it found."""

import math
from typing import Any

from report import Row, factors, ratio, table

from minivae.cli.bench import spread

Rows = list[dict[str, Any]]


def of(number: int, rows: Rows) -> str:
    """A section's tables, then its notes and what failed."""
    text = [{1: device, 2: training, 3: tests, 4: rivals, 5: kernels, 6: sanitizer, 7: profile}[number](rows)]
    text += [f"note: {row['note']}" for row in rows if "note" in row]
    text += [f"FAILED: {row['failed']}: {row['why']}" for row in rows if "failed" in row]
    return "\n".join(filter(None, text))


def figure(value: Any, form: str = ".1f") -> str:
    return format(value, form) if isinstance(value, int | float) and math.isfinite(value) else "-"


def device(rows: Rows) -> str:
    lines = []
    for row in rows:
        if "name" in row:
            lines.append(f"{row['name']}, compute capability {row['compute_capability']}; peaks by its clocks: {peaks_text(row['peaks'])}")
        if "versions" in row:
            lines.append(", ".join(f"{name} {value}" for name, value in row["versions"].items()))
        if "nvidia_smi" in row:
            lines.append(row["nvidia_smi"])
        if "measured_copy_bandwidth" in row:
            lines.append(f"a large copy reads and writes {row['measured_copy_bandwidth'] / 1e12:.2f} TB/s")
    compiled = [row for row in rows if "compiled" in row]
    if compiled:
        lines.append("compiling: " + ", ".join(f"{row['compiled']} {row['seconds']:.1f} s" for row in compiled))
    return "\n".join([*lines, check_table([row for row in rows if "precision" in row])])


def peaks_text(peaks: dict[str, float]) -> str:
    parts = [f"{peaks['bandwidth'] / 1e12:.2f} TB/s"]
    parts += [f"{peaks[name] / 1e12:.1f} TFLOP/s {name.upper()}" for name in ("fp32", "tf32") if name in peaks]
    return ", ".join(parts)


def check_table(rows: Rows) -> str:
    if not rows:
        return ""
    wrong = [row for row in rows if not row["holds"]]
    worst = {p: max((r["worst"] for r in rows if r["precision"] == p), default=0.0) for p in ("fp32", "tf32")}
    head = f"{len(rows)} checks, {len(wrong)} wrong; the worst relative error: FP32 {worst['fp32']:.1e}, TF32 {worst['tf32']:.1e}"
    return "\n".join(
        [head, *(f"WRONG: {r['what']}, {r['precision']}: {r['of']} off by {r['worst']:.2e}, bound {r['bound']:g}" for r in wrong)]
    )


def training(rows: Rows) -> str:
    lines = []
    for row in rows:
        if "losses" in row:
            verdict = {True: "holds", False: "WRONG", None: "not judged"}[row["holds"]]
            losses = [figure(row["losses"][-1], ".5f"), figure(row["exact"][-1], ".5f")]
            lines.append([row["what"], *losses, f"{row['worst']:.1e}", f"{row['bound']:.1e}", verdict, f"{row['seconds']:.1f}"])
    text = table(["training", "last loss", "exact", "furthest off", "bound", "verdict", "seconds"], lines) if lines else ""
    return text + "\n".join(
        f"{row['what']}: {'holds' if row['holds'] else 'WRONG'}" for row in rows if "what" in row and "losses" not in row
    )


def tests(rows: Rows) -> str:
    found = [row for row in rows if "test" in row]
    bad = [row for row in found if row["holds"] is False]
    skipped = [row for row in found if row["holds"] is None]
    head = f"{len(found)} tests: {len(found) - len(bad) - len(skipped)} passed, {len(bad)} failed, {len(skipped)} skipped"
    slow = ", ".join(f"{row['test'].split('::')[-1]} {row['seconds']:.1f} s" for row in sorted(found, key=lambda r: -r["seconds"])[:5])
    return "\n".join([head, *([f"the longest: {slow}"] if slow else []), *(f"FAILED: {row['test']}: {row['why']}" for row in bad)])


def rivals(rows: Rows) -> str:
    found = [(Row(**row["row"]), row["floor"]) for row in rows if "row" in row]
    return summary([row for row, _ in found], {row.workload: floor for row, floor in found})


def summary(rows: list[Row], floors: dict[str, dict[str, float]]) -> str:
    """Every contestant on every workload; ratios above 1 where ours, of the same precision, is faster."""
    lines = []
    for i, row in enumerate(rows):
        tf32 = row.contestant.endswith("tf32")
        own = f"minivae-graph{'-tf32' if tf32 else ''}"
        # of the same pass: the last of ours that came before, else the first
        same = [r for r in rows if r.workload == row.workload and r.contestant == own]
        before = [r for r in rows[: i + 1] if r.workload == row.workload and r.contestant == own]
        ours = (before or same or [None])[-1 if before else 0]
        fits = ours is not None and row is not ours and len(ours.seconds) == len(row.seconds)
        against = factors(ratio(ours, row)) if fits and ours is not None else ["", ""]
        median, low, high = spread([1e6 * s for s in row.seconds])
        least = floors.get(row.workload, {}).get("tf32" if tf32 else "fp32")
        times_floor = f"{1e-6 * median / least:.1f}" if least else ""
        lines.append([row.workload, row.contestant, f"{median:.1f}", f"{low:.1f} to {high:.1f}", *against, times_floor])
    header = ["workload", "contestant", "us a step", "10th to 90th", "minivae-graph is faster by", "10th to 90th", "times the floor"]
    return table(header, lines) if lines else ""


def kernels(rows: Rows) -> str:
    parts = [kernel_table([row for row in rows if "kernel" in row])]
    for name in dict.fromkeys(row["workload"] for row in rows if "node" in row):
        parts.append(node_table(name, [row for row in rows if row.get("workload") == name]))
    for row in rows:
        if "epoch_microseconds_a_step" in row:
            parts.append(f"{row['workload']}: {row['epoch_microseconds_a_step']:.1f} us a step over a whole epoch")
    return "\n".join(filter(None, parts))


def kernel_table(rows: Rows, most: int = 12) -> str:
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


def node_table(name: str, rows: Rows, most: int = 8) -> str:
    """How a step's time divides over the nodes of its graph; the longest by name."""
    total = next((row for row in rows if "nodes" in row), None)
    nodes = [row for row in rows if "node" in row]
    if total is None or "busy_microseconds" not in total:
        return f"{name}: {len(nodes)} nodes"
    head = f"{name}: {total['nodes']} nodes, busy for {total['busy_microseconds']:.1f} us and idle between them for "
    lines = [head + f"{total['idle_microseconds']:.1f} us; the longest:"]
    for row in sorted(nodes, key=lambda row: -row["microseconds"])[:most]:
        lines.append(f"  {row['node']:3d} {row['name'][:70]}: {row['microseconds']:.2f} us, {row['gap']:.2f} us after the one before")
    return "\n".join(lines)


def sanitizer(rows: Rows) -> str:
    lines = [
        [row["what"], row["kernels"], "-" if row["faults"] is None else row["faults"], f"{row['seconds']:.0f}"]
        for row in rows
        if "faults" in row
    ]
    text = table(["tool", "kernels", "faults", "seconds"], lines) if lines else ""
    return text + "\n".join(f"{row['what']}: {said}" for row in rows if "faults" in row for said in row["about"])


def profile(rows: Rows) -> str:
    header = ["kernel", "us", "occupancy", "of possible", "its limit", "bank conflicts ld, st", "sectors a request ld, st", "compute"]
    header += ["memory", "limited by"]
    lines = [
        [
            row["kernel"],
            figure(row["microseconds"]),
            f"{figure(row['occupancy'], '.0f')}%",
            f"{figure(row['occupancy_possible'], '.0f')}%",
            row["occupancy_limit"],
            f"{figure(row['bank_conflicts_loads'], '.0%')}, {figure(row['bank_conflicts_stores'], '.0%')}",
            f"{figure(row['sectors_a_request_loads'])}, {figure(row['sectors_a_request_stores'])}",
            f"{figure(row['compute'], '.0f')}%",
            f"{figure(row['memory'], '.0f')}%",
            row["limited_by"],
        ]
        for row in rows
        if "limited_by" in row
    ]
    return table(header, lines) if lines else ""
