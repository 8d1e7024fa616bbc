"""The map of the package, drawn from its imports when the pages are built: a box a room, an arrow from a room to one that it uses.

An arrow is left out where a longer way leads to the same room: what is drawn is the least that has the same ways.  The front door, which
shows everything, and the errors, which everybody raises, are not drawn.
"""

import ast
import itertools
from html import escape
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "minivae"
NOT_DRAWN = {"__init__", "__main__", "errors", "version"}
HEIGHT, LEVEL, GAP, LETTER = 38, 66, 14, 7.3  # pixels: a box, from level to level, between boxes, the width of a letter

Graph = dict[str, set[str]]


def files_of(room: str) -> list[Path]:
    folder = PACKAGE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{room}.py"]


def rooms() -> Graph:
    """{room: the rooms that it imports}, from every import statement of its files."""
    names = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()} - NOT_DRAWN
    return {room: {other for file in files_of(room) for other in imports(file)} & names - {room} for room in sorted(names)}


def imports(file: Path) -> set[str]:
    """The first names below the package that a file's relative imports go to."""
    depth, found = len(file.relative_to(PACKAGE).parts), set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            found |= {node.module.partition(".")[0]} if node.module else {alias.name for alias in node.names}
    return found


def reachable(graph: Graph, room: str) -> set[str]:
    found, todo = set(), [room]
    while todo:
        new = graph[todo.pop()] - found
        found |= new
        todo += new
    return found


def shortest(graph: Graph) -> Graph:
    """Without the arrows to rooms that a longer way reaches, too."""
    return {room: {to for to in below if not any(to in reachable(graph, other) for other in below - {to})} for room, below in graph.items()}


def levels(graph: Graph) -> dict[str, int]:
    """The height of each room: above all that it uses, and close below those that use it."""
    found: dict[str, int] = {}

    def level(room: str) -> int:
        if room not in found:
            found[room] = max((level(below) + 1 for below in graph[room]), default=0)
        return found[room]

    for room in sorted(graph, key=level, reverse=True):
        found[room] = min((found[user] - 1 for user, below in graph.items() if room in below), default=found[room])
    return found


def layout(graph: Graph) -> tuple[list[list[str]], list[tuple[str, ...]]]:
    """(the rooms of each level from left to right, the ways of the arrows from level to level).

    An arrow over several levels gets a place of its own in each of them, named "from>to"; a place moves towards the mean of its neighbours.
    """
    level = levels(graph)
    rows: list[list[str]] = [[] for _ in range(max(level.values()) + 1)]
    for room, n in level.items():
        rows[n].append(room)
    ways = []
    for room, below in graph.items():
        for to in sorted(below):
            between = [f"{room}>{to}>{n}" for n in range(level[room] - 1, level[to], -1)]
            for place, n in zip(between, range(level[room] - 1, level[to], -1), strict=True):
                rows[n].append(place)
            ways.append((room, *between, to))
    beside: dict[str, list[str]] = {}
    for way in ways:
        for a, b in itertools.pairwise(way):
            beside.setdefault(a, []).append(b)
            beside.setdefault(b, []).append(a)
    for sweep in range(24):
        for row in rows[:: 1 if sweep % 2 else -1]:
            at = places(rows)
            row.sort(key=lambda place: sum(at[other][0] for other in beside.get(place, [place])) / len(beside.get(place, [place])))
    return rows, ways


def width(place: str) -> float:
    return 10.0 if ">" in place else max(64, 18 + LETTER * len(place))


def places(rows: list[list[str]]) -> dict[str, tuple[float, float]]:
    """The middle of each place's upper edge; each row is centred."""
    found = {}
    for n, row in enumerate(rows):
        x = -(sum(width(place) for place in row) + GAP * (len(row) - 1)) / 2
        for place in row:
            found[place] = (x + width(place) / 2, (len(rows) - 1 - n) * LEVEL)
            x += width(place) + GAP
    return found


def lines(room: str) -> int:
    return sum(len(file.read_text("utf-8").splitlines()) for file in files_of(room))


def drawing() -> None:
    """Print the map as an SVG."""
    rows, ways = layout(shortest(rooms()))
    at = places(rows)
    half = max(abs(x) + width(place) / 2 for place, (x, _) in at.items()) + 4
    parts = []
    for way in ways:
        (x, y), *_, (end_x, end_y) = points = [at[place] for place in way]
        path = f"M{x:.0f} {y + HEIGHT:.0f}"
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            low = y1 - 3 if (x1, y1) == (end_x, end_y) else y1
            path += f" C{x0:.0f} {y0 + HEIGHT + 14:.0f} {x1:.0f} {low - 14:.0f} {x1:.0f} {low:.0f}"
            path += "" if (x1, y1) == (end_x, end_y) else f" V{y1 + HEIGHT:.0f}"
        parts.append(f'<path class="edge" marker-end="url(#way)" d="{path}"/>')
    for room, (x, y) in at.items():
        if ">" not in room:
            w = width(room)
            parts.append(f'<rect class="op" x="{x - w / 2:.0f}" y="{y:.0f}" width="{w:.0f}" height="{HEIGHT}" rx="5"/>')
            parts.append(f'<text text-anchor="middle" x="{x:.0f}" y="{y + 16:.0f}">{escape(room)}</text>')
            parts.append(f'<text class="quiet" text-anchor="middle" x="{x:.0f}" y="{y + 31:.0f}">{lines(room):,}</text>')
    tip = '<marker id="way" markerWidth="7" markerHeight="7" refX="6" refY="3" orient="auto"><path d="M0 0 L7 3 L0 6 z"/></marker>'
    box = f"{-half:.0f} -4 {2 * half:.0f} {(len(rows) - 1) * LEVEL + HEIGHT + 8:.0f}"
    print(f'<div class="graph"><svg viewBox="{box}" width="{2 * half:.0f}" role="img" aria-label="the rooms of minivae and what they use">')
    print(f"<defs>{tip}</defs>", *parts, "</svg></div>", sep="\n")


def table() -> None:
    """Print, as MyST, each room with the first sentence of its docstring, from the top of the map to its ground."""
    level = levels(rooms())
    print("| room | what is in it |\n|---|---|")
    for room in sorted(level, key=lambda room: (-level[room], room)):
        file = PACKAGE / room / "__init__.py"
        text = ast.get_docstring(ast.parse((file if file.exists() else PACKAGE / f"{room}.py").read_text("utf-8"))) or ""
        print(f"| `{room}` | {text.partition(chr(10) * 2)[0].replace(chr(10), ' ').replace('|', chr(92) + '|')} |")
