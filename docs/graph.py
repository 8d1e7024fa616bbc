"""A loss's graph as the engine recorded it: as a table, and as a drawing."""

import os
from html import escape

os.environ.setdefault("MPLBACKEND", "Agg")

import minivae as mv
from minivae import Tensor
from minivae.engine import Node


def one_step() -> tuple[mv.VAE, Tensor]:
    """The model of the page, on a batch of 50 images of noise: the graph does not depend on the pixels."""
    seed = mv.Stream(0)
    model = mv.VAE((28, 28, 1), seed.split("weights"), latent=2, hidden=[200])
    x = seed.split("pixels").uniform((50, 28, 28, 1))
    q = model.encode(x)
    p = model.decode(q.sample(seed.split("noise")))
    return model, (mv.kl(q, model.prior) - p.log_prob(x)).mean()


def walk(loss: Tensor) -> dict[Node, list[Tensor]]:
    """Every Node that the loss depends on, in the order of making, with the Tensors of it that somebody uses."""
    made: dict[Node, list[Tensor]] = {}
    todo = [loss]
    while todo:
        tensor = todo.pop()
        known = made.setdefault(tensor.node, [])
        if not any(tensor is other for other in known):
            known.append(tensor)
            todo += [p for p in tensor.node.parents if p is not None]
    return dict(sorted(made.items(), key=lambda item: item[0].number))


def shape(tensors: list[Tensor]) -> str:
    return " ".join(str(t.shape).replace(" ", "") for t in tensors)


def number_from_zero(graph: dict[Node, list[Tensor]]) -> dict[Node, int]:
    first = next(iter(graph)).number
    return {node: node.number - first for node in graph}


def table(model: mv.VAE, loss: Tensor) -> None:
    """Print a line a Node: its number, what made it, the numbers of its parents, the shape of its value."""
    graph, names = walk(loss), {p.node: name for name, p in model.named_parameters().items()}
    number = number_from_zero(graph)
    for node, tensors in graph.items():
        inputs = [p for p in node.parents if p is not None]
        parents = " ".join(f"{number[p.node]}" if p.node.outputs is None else f"{number[p.node]}[{p.index}]" for p in inputs)
        what = names[node] if node.op is None else node.op.name
        print(f"{number[node]:4d}  {what:24s}{parents:14s}{shape(tensors)}".rstrip())


def drawing(model: mv.VAE, loss: Tensor) -> None:
    """Print an SVG: ops from top to bottom in the order of their numbers, the variables that they read at their left."""
    graph, names = walk(loss), {p.node: name for name, p in model.named_parameters().items()}
    number = number_from_zero(graph)
    ops = [node for node in graph if node.op is not None]
    row = {node: i for i, node in enumerate(ops)}
    WIDTH, HEIGHT, STEP, LEFT = 300, 26, 46, 250
    boxes, edges = [], []
    for node, i in row.items():
        y = i * STEP + 4
        boxes.append(f'<rect class="op" x="{LEFT}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="5"/>')
        boxes.append(f'<text x="{LEFT + 10}" y="{y + 17}">{number[node]} {escape(node.op.name)}</text>')
        boxes.append(f'<text class="quiet" text-anchor="end" x="{LEFT + WIDTH - 10}" y="{y + 17}">{shape(graph[node])}</text>')
        variables = [p.node for p in node.parents if p is not None and p.node.op is None]
        for k, variable in enumerate(variables):
            top = y - 6 + 20 * k if len(variables) > 1 else y + 4
            boxes.append(f'<rect class="variable" x="0" y="{top}" width="205" height="18" rx="5"/>')
            boxes.append(f'<text x="8" y="{top + 13}">{number[variable]} {escape(names[variable])}</text>')
            edges.append(f'<path class="edge" marker-end="url(#tip)" d="M205 {top + 9} L{LEFT - 2} {y + 13}"/>')
        for parent in dict.fromkeys(p.node for p in node.parents if p is not None and p.node.op is not None):
            start, end = row[parent] * STEP + 4 + HEIGHT, y - 2
            if i - row[parent] == 1:
                edges.append(f'<path class="edge" marker-end="url(#tip)" d="M{LEFT + 150} {start} V{end}"/>')
            else:  # around the ops between
                side, bow = LEFT + WIDTH, min(14 * (i - row[parent]), 90)
                edges.append(
                    f'<path class="edge" marker-end="url(#tip)" d="M{side} {start - 8} C{side + bow} {start} {side + bow} {end + 8} '
                    f'{side + 2} {end + 12}"/>'
                )
    tip = '<marker id="tip" markerWidth="7" markerHeight="7" refX="6" refY="3" orient="auto"><path d="M0 0 L7 3 L0 6 z"/></marker>'
    print(f'<div class="graph"><svg viewBox="0 -4 660 {len(ops) * STEP}" width="660" role="img" aria-label="graph of one training step">')
    print(f"<defs>{tip}</defs>", *edges, *boxes, "</svg></div>", sep="\n")
