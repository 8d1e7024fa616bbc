"""Which op made the first NaN or infinity: asked once, after the loss or a gradient has turned out not to be finite."""

from typing import Any

from ..backend import Array, xp
from ..engine import Node, Tensor, gradients
from ..errors import NonFiniteError


def _count(a: Array) -> int:
    return int(a.size - xp(a).isfinite(a).sum())


def _graph(loss: Tensor) -> dict[Node, list[Tensor]]:
    """Every node that the loss depends on with the Tensors that it made, in the order of making."""
    made: dict[Node, list[Tensor]] = {}
    todo, seen = [loss], set()
    while todo:
        tensor = todo.pop()
        if tensor.node is None or id(tensor) in seen:
            continue
        seen.add(id(tensor))
        made.setdefault(tensor.node, []).append(tensor)
        todo += [p for p in tensor.node.parents if p is not None]
    return dict(sorted(made.items(), key=lambda item: item[0].number))


def explain(loss: Tensor, params: dict[str, Tensor], where: str) -> NonFiniteError:
    """The error that names what is not finite: a parameter, the op whose value it first was, or the op whose vjp made it.

    `where` says which step it was.  The graph of the loss is used up.
    """
    for name, p in params.items():
        if _count(p.data):
            return NonFiniteError(f"{where}: the parameter {name} holds {_count(p.data)} numbers that are not finite")
    graph = _graph(loss)
    for node, tensors in graph.items():
        bad = next((t for t in tensors if _count(t.data)), None)
        if bad is not None and node.op is not None:
            return NonFiniteError(
                f"{where}: the op {node.op.name} made {_count(bad.data)} of {bad.size} numbers not finite, from finite inputs of shapes "
                f"{[p.shape for p in node.parents if p is not None]}; lower the learning rate, clip the gradient, or look at the data"
            )
    for node in graph:
        if node.op is not None:
            node.vjp = _checked(node, where)
    try:
        gradients(loss, list(params.values()))
    except NonFiniteError as error:
        return error
    return NonFiniteError(f"{where}: the loss or a gradient was not finite, but is when computed again")


def _checked(node: Node, where: str) -> Any:
    vjp, name = node.vjp, node.op.name if node.op else ""

    def checked(g: Any, *saved: Any, **needs: Any) -> Any:
        parts = vjp(g, *saved, **needs)
        for part in parts:
            if part is not None and _count(part):
                raise NonFiniteError(
                    f"{where}: the vjp of the op {name} made {_count(part)} of {part.size} numbers of a gradient not finite; "
                    "lower the learning rate, clip the gradient, or look at the data"
                )
        return parts

    return checked
