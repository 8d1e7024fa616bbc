"""A loss's graph as the engine recorded it: as a table, and as a drawing."""

import os
from html import escape

os.environ.setdefault("MPLBACKEND", "Agg")

import minivae as mv
from minivae import Tensor


def one_step() -> tuple[mv.VAE, Tensor]:
    """The model of the page, on a batch of 50 images of noise: the graph does not depend on the pixels."""
    seed = mv.Stream(0)
    model = mv.VAE((28, 28, 1), seed.split("weights"), latent=2, hidden=[200])
    x = seed.split("pixels").uniform((50, 28, 28, 1))
    q = model.encode(x)
    p = model.decode(q.sample(seed.split("noise")))
    return model, (mv.kl(q, model.prior) - p.log_prob(x)).mean()


def walk(loss: Tensor) -> dict[Tensor, int]:
    """Every Tensor that the loss was made from, in the order of making, numbered from 0."""
    found, todo = {loss}, [loss]
    while todo:
        new = {p for p in todo.pop().parents if p is not None} - found
        found |= new
        todo += new
    made = sorted(found, key=lambda tensor: tensor.number)
    return {tensor: tensor.number - made[0].number for tensor in made}


def shape(tensor: Tensor) -> str:
    values = tensor.data if isinstance(tensor.data, tuple) else (tensor.data,)
    return " ".join(str(a.shape).replace(" ", "") for a in values)


def named(tensor: Tensor) -> str:
    """The op that made it; `split[0]` for the first part of what split made."""
    whole = next(iter(tensor.parents)) if len(tensor.parents) == 1 else None
    if whole is None or not isinstance(whole.data, tuple):
        return tensor.op.name
    return f"{tensor.op.name}[{[part is tensor.data for part in whole.data].index(True)}]"


def table(model: mv.VAE, loss: Tensor) -> None:
    """Print a line a Tensor: its number, what made it, the numbers of its parents, the shape of its value."""
    number, names = walk(loss), {p: name for name, p in model.named_parameters().items()}
    for tensor, n in number.items():
        parents = " ".join(str(number[p]) for p in tensor.parents if p is not None)
        print(f"{n:4d}  {names.get(tensor) or named(tensor):24s}{parents:14s}{shape(tensor)}".rstrip())


def drawing(model: mv.VAE, loss: Tensor) -> None:
    """Print an SVG: ops from top to bottom in the order of their numbers, the variables that they read at their left."""
    number, names = walk(loss), {p: name for name, p in model.named_parameters().items()}
    ops = [tensor for tensor in number if tensor.op is not None]
    row = {tensor: i for i, tensor in enumerate(ops)}
    WIDTH, HEIGHT, STEP, LEFT = 300, 26, 46, 250
    boxes, edges = [], []
    for tensor, i in row.items():
        y = i * STEP + 4
        boxes.append(f'<rect class="op" x="{LEFT}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="5"/>')
        boxes.append(f'<text x="{LEFT + 10}" y="{y + 17}">{number[tensor]} {escape(named(tensor))}</text>')
        boxes.append(f'<text class="quiet" text-anchor="end" x="{LEFT + WIDTH - 10}" y="{y + 17}">{shape(tensor)}</text>')
        variables = [p for p in tensor.parents if p is not None and p.op is None]
        for k, variable in enumerate(variables):
            top = y - 6 + 20 * k if len(variables) > 1 else y + 4
            boxes.append(f'<rect class="variable" x="0" y="{top}" width="205" height="18" rx="5"/>')
            boxes.append(f'<text x="8" y="{top + 13}">{number[variable]} {escape(names[variable])}</text>')
            edges.append(f'<path class="edge" marker-end="url(#tip)" d="M205 {top + 9} L{LEFT - 2} {y + 13}"/>')
        for parent in (p for p in tensor.parents if p is not None and p.op is not None):
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
