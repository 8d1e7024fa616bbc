"""Which op made the first NaN or infinity: asked once, after the loss or a gradient has turned out not to be finite."""

from typing import Any

from ..backend import Array, xp
from ..engine import Tensor, gradients
from ..errors import NonFiniteError

ADVICE = "lower the learning rate, clip the gradient, or look at the data"


def _count(a: Array | tuple) -> int:
    if isinstance(a, tuple):
        return sum(_count(part) for part in a)
    return int(a.size - xp(a).isfinite(a).sum())


def _graph(loss: Tensor) -> list[Tensor]:
    """Every tensor that the loss was made from, in the order of making."""
    todo, seen = [loss], {loss}
    while todo:
        for parent in todo.pop().parents:
            if parent is not None and parent not in seen:
                seen.add(parent)
                todo.append(parent)
    return sorted(seen, key=lambda tensor: tensor.number)


def explain(losses: dict[str, Tensor], players: dict[str, Any], where: str) -> NonFiniteError:
    """The error that names what is not finite: a parameter, the op whose value it first was, or the op whose vjp made it.

    losses    of the players that were to move;  where    which step it was.  The graphs of the losses are used up.
    """
    params = {name: player.named_parameters() for name, player in players.items()}
    for player, own in params.items():
        for name, p in own.items():
            if _count(p.data):
                whose = "" if len(players) == 1 else f"{player}'s "
                return NonFiniteError(f"{where}: the {whose}parameter {name} holds {_count(p.data)} numbers that are not finite")
    for player, loss in losses.items():
        graph = [tensor for tensor in _graph(loss) if tensor.op is not None]
        for tensor in graph:
            if _count(tensor.data):
                size = sum(part.size for part in tensor.data) if isinstance(tensor.data, tuple) else tensor.size
                shapes = [parent.shape for parent in tensor.parents if parent is not None]
                return NonFiniteError(
                    f"{where}: the op {tensor.op.name} made {_count(tensor.data)} of {size} numbers not finite, though "
                    f"the tensors that it was made from, {shapes}, are finite; {ADVICE}"
                )
        for tensor in graph:
            tensor.vjp = _checked(tensor, where)
        try:
            gradients(loss, list(params[player].values()))
        except NonFiniteError as error:
            return error
    return NonFiniteError(f"{where}: a loss or a gradient was not finite, but is when computed again")


def _checked(tensor: Tensor, where: str) -> Any:
    vjp, name = tensor.vjp, tensor.op.name

    def checked(g: Any, *saved: Any, **options: Any) -> Any:
        parts = vjp(g, *saved, **options)
        for part in parts:
            if part is not None and not isinstance(part, list) and _count(part):
                raise NonFiniteError(
                    f"{where}: the vjp of the op {name} made {_count(part)} of {part.size} numbers of a gradient not finite; {ADVICE}"
                )
        return parts

    return checked
