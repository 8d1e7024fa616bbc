"""The nodes of a CUDA graph, and the time of each while the whole graph runs: PyTorch's profiler sees every kernel of the process."""

import json
import re
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ON_THE_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")  # categories of a trace


def in_order(graph: Any, cupy: Any, repeats: int) -> Iterator[dict[str, Any]]:
    """A row a node, {"node", "name", "microseconds", "gap"}, then their number and sums.  Without PyTorch: the names alone.

    graph    a minivae.replay.graph.Graph
    """
    by_hand = getattr(graph.graph, "timed", None)
    if by_hand is not None:  # the stand-in times its own
        rows = positions(by_hand(repeats), repeats)
    else:
        try:
            rows = positions(profiled(graph.launch, cupy.cuda.Device().synchronize, repeats), repeats)
        except ImportError:
            names = nodes_of_dot(graph.graph.debug_dot_str())
            yield from ({"node": i, "name": name} for i, name in enumerate(names))
            yield {"nodes": len(names), "note": "without PyTorch nobody times the nodes"}
            return
    yield from rows
    busy = sum(row["microseconds"] for row in rows)
    yield {"nodes": len(rows), "busy_microseconds": busy, "idle_microseconds": sum(row["gap"] for row in rows)}


def profiled(launch: Callable[[], Any], wait: Callable[[], Any], repeats: int) -> list[tuple[str, float, float]]:
    """(name, start, duration), in microseconds, of all that the device did while the graph was launched so many times."""
    from torch.profiler import ProfilerActivity, profile

    launch()
    wait()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(repeats):
            launch()
        wait()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        return events_of(json.loads(path.read_text()))


def events_of(trace: Any) -> list[tuple[str, float, float]]:
    """What ran on the device by a Chrome trace."""
    events = trace["traceEvents"] if isinstance(trace, dict) else trace
    found = [(event["name"], float(event["ts"]), float(event["dur"])) for event in events if event.get("cat") in ON_THE_DEVICE]
    return sorted(found, key=lambda event: event[1])


def positions(events: list[tuple[str, float, float]], repeats: int) -> list[dict[str, Any]]:
    """The medians over all repeats of each node's duration, and of the gap between it and the node before; the first has none."""
    count, rest = divmod(len(events), repeats)
    if not count or rest:
        raise ValueError(f"{len(events)} nodes ran in {repeats} launches; need as many in each")
    launches = [events[i * count : (i + 1) * count] for i in range(repeats)]
    rows = []
    for place in range(count):
        names = {launch[place][0] for launch in launches}
        if len(names) > 1:
            raise ValueError(f"node {place} is called {' and '.join(sorted(names))}; need one order in every launch")
        gaps = [max(one[place][1] - one[place - 1][1] - one[place - 1][2], 0.0) for one in launches] if place else [0.0]
        took = statistics.median(launch[place][2] for launch in launches)
        rows.append({"node": place, "name": names.pop(), "microseconds": took, "gap": statistics.median(gaps)})
    return rows


def nodes_of_dot(dot: str) -> list[str]:
    """The names of the nodes in a graph's description by CUDA (cudaGraphDebugDotPrint): of a label, the first line that is no number."""
    labels = re.findall(r'"graph_\d+_node_\d+"\s*\[[^\]]*?label="([^"]*)"', dot)
    lines = [[line.strip("{} |") for line in re.split(r"\\n|\n", label)] for label in labels]
    return [next((line for line in own if line and not line.isdigit()), "?") for own in lines]
