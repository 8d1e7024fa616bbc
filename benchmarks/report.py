"""Timings to tables in Markdown.  A ratio is above 1 where ours (a workload's first row) is faster."""

from dataclasses import dataclass
from typing import Any

from minivae.cli.bench import spread


@dataclass
class Row:
    """A contestant on a workload."""

    workload: str
    contestant: str
    seconds: list[float]  # a step, in each round
    loss: float | None = None
    start_seconds: float = 0.0  # building, compiling and five steps
    peak_mib: float = 0.0  # the most memory that training took beyond what was there after the imports
    process_mib: float = 0.0  # the same, all in all


def ratio(ours: Row, theirs: Row) -> tuple[float, float, float]:
    """How many times faster ours is, round by round: median, 10th and 90th percentile."""
    return spread([b / a for a, b in zip(ours.seconds, theirs.seconds, strict=True)])


def table(header: list[str], rows: list[list[Any]]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def times(milliseconds: tuple[float, float, float]) -> list[str]:
    median, low, high = milliseconds
    return [f"{median:.3f}", f"{low:.3f} to {high:.3f}"]


def factors(values: tuple[float, float, float]) -> list[str]:
    median, low, high = values
    return [f"{median:.2f}x", f"{low:.2f} to {high:.2f}"]


def details(rows: list[Row]) -> str:
    """One workload, every contestant."""
    ours = rows[0]
    header = [ours.workload, "ms a step", "10th to 90th", f"{ours.contestant} is faster by", "10th to 90th"]
    header += ["memory MiB", "process MiB", "start s"]
    lines = []
    for row in rows:
        against = ["", ""] if row is ours else factors(ratio(ours, row))
        rest = [f"{row.peak_mib:.0f}", f"{row.process_mib:.0f}", f"{row.start_seconds:.1f}"]
        lines.append([row.contestant, *times(spread([1e3 * s for s in row.seconds])), *against, *rest])
    return table(header, lines)


def summary(workloads: list[list[Row]]) -> str:
    """Every workload against its best peer (the least median), and the worst of these ratios."""
    lines, ratios = [], []
    for ours, *peers in workloads:
        if not peers:
            continue
        best = min(peers, key=lambda row: spread(row.seconds)[0])
        against = ratio(ours, best)
        ratios.append((against[0], ours.workload))
        milliseconds = [f"{1e3 * spread(row.seconds)[0]:.3f}" for row in (ours, best)]
        torch = [row.peak_mib for row in peers if row.contestant.startswith("torch")]
        least = f"{ours.peak_mib:.0f} / {min(torch):.0f}" if torch else f"{ours.peak_mib:.0f} / -"
        lines.append([ours.workload, milliseconds[0], best.contestant, milliseconds[1], *factors(against), least])
    if not lines:
        return ""
    name = workloads[0][0].contestant
    header = ["workload", f"{name} ms", "best peer", "its ms", f"{name} is faster by", "10th to 90th", "MiB, ours / PyTorch's least"]
    worst, where = min(ratios)
    return f"{table(header, lines)}\nThe worst ratio: {worst:.2f}x, {where}."
