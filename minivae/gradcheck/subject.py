"""What is checked: a function, its variables, and how to evaluate it at other points without leaving a trace."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..backend import Array, use_backend, xp
from ..engine import Tensor, gradients, no_grad
from ..errors import ShapeError, UsageError
from ..random import Stream

TINY = 1e-30  # the complex step: its square is below every rounding, so that Im f(x + i TINY v) / TINY = f'(x) v to the last digit


class FrozenStream(Stream):
    """A Stream that draws the same numbers for every dtype: in float32, then widened.  A Stream by itself draws other bits in float64,
    and the same loss in float32 and in float64 would be two functions."""

    def __init__(self, stream: Stream):
        self.set_state(stream.state())

    def split(self, name: str) -> Stream:
        return FrozenStream(super().split(name))

    def _float32(self, like: Array | None) -> Array | None:
        return None if like is None else xp(like).empty(0, np.float32)

    def uniform(self, shape: tuple[int, ...] | int, like: Array | None = None) -> Array:
        u = super().uniform(shape, self._float32(like))
        return u if like is None else u.astype(like.real.dtype, copy=False)

    def normal(self, shape: tuple[int, ...] | int, like: Array | None = None) -> Array:
        eps = super().normal(shape, self._float32(like))
        return eps if like is None else eps.astype(like.real.dtype, copy=False)


class Held:
    """A model's own streams and buffers: while `still`, streams draw the same numbers each time, and what is written to buffers is lost."""

    def __init__(self, model: Any):
        modules = list(model.modules()) if hasattr(model, "modules") else []
        slots = [(module, name, value) for module in modules for name, value in vars(module).items()]
        self.streams = [slot for slot in slots if isinstance(slot[2], Stream)]
        self.buffers = [slot for slot in slots if slot[1] in getattr(slot[0], "buffers", ())]

    @contextmanager
    def still(self) -> Iterator[None]:
        try:
            for module, name, stream in self.streams:
                setattr(module, name, FrozenStream(stream))
            for module, name, value in self.buffers:
                setattr(module, name, value.copy())
            yield
        finally:
            for module, name, value in self.streams + self.buffers:
                setattr(module, name, value)


class Frozen:
    """A model's loss as a function of its parameters alone: `frozen(...)` makes it."""

    def __init__(self, objective: Callable[..., Any], model: Any, x: Any, rng: Stream, options: dict[str, Any]):
        self.objective, self.model, self.x, self.rng, self.options = objective, model, x, rng, options
        self.batch_size = len(x)

    def __call__(self) -> Tensor:
        terms = self.objective(self.model, self.x, FrozenStream(self.rng), **self.options)
        return getattr(terms, "loss", terms)

    def named_parameters(self) -> dict[str, Tensor]:
        return self.model.named_parameters()

    def modules(self) -> Iterator[Any]:
        return self.model.modules()


def frozen(objective: Callable[..., Any], model: Any, x: Any, rng: Stream, **options: Any) -> Frozen:
    """f() = objective(model, x, rng, **options) with the noise held fixed: every call draws the same numbers, at any precision.

    What `rng` would draw next is what every call draws; `rng` itself does not move.  The objective returns a Tensor, or an object
    with a `.loss`, as `elbo` does.     gradcheck(frozen(elbo, model, x, Stream(0)))
    """
    return Frozen(objective, model, x, rng, options)


class Subject:
    """f and its variables: floating inputs, and the parameters of a Module or of a frozen loss."""

    def __init__(self, f: Callable[..., Any], inputs: Any = ()):
        names: Sequence[str] | None = None
        if isinstance(inputs, Mapping):
            names, inputs = list(inputs), list(inputs.values())
        elif isinstance(inputs, Tensor) or hasattr(inputs, "dtype"):
            inputs = [inputs]
        self.f, self.held = f, Held(f)
        self.arguments: list[Any] = []
        self.variables: dict[str, Tensor] = {}
        for i, value in enumerate(inputs):
            if not isinstance(value, Tensor) and (isinstance(value, float) or getattr(getattr(value, "dtype", None), "kind", "") == "f"):
                value = Tensor(np.float64(value) if isinstance(value, float) else value)
            self.arguments.append(value)  # integers, masks and other things are passed on as they are
            if isinstance(value, Tensor) and value.number:  # a stop_gradient() is one of the other things
                self.variables[names[i] if names else f"input {i}"] = value
        parameters = f.named_parameters() if hasattr(f, "named_parameters") else {}
        known = {id(tensor) for tensor in self.variables.values()}
        for name, tensor in parameters.items():  # a weight with two names is one variable
            if id(tensor) not in known:
                self.variables[name] = tensor
                known.add(id(tensor))
        if not self.variables:
            raise UsageError("gradcheck: there is nothing to differentiate; give at least one floating array, or a Module with parameters")
        for name, tensor in self.variables.items():
            if tensor.dtype.kind != "f":
                raise UsageError(f"gradcheck: {name} is {tensor.dtype}; need float32 or float64")
        self.own = {name: tensor.data for name, tensor in self.variables.items()}
        self.point = {name: a.astype(np.float64) for name, a in self.own.items()}
        lead = next((t.shape[0] for t in self.arguments if isinstance(t, Tensor) and t.ndim), None)
        self.batch_size = getattr(f, "batch_size", lead)

    @contextmanager
    def at(self, point: Mapping[str, Array], backend: str | None = "numpy") -> Iterator[None]:
        """Inside the block the variables hold other values, streams and buffers are held, and references run unless backend is None."""
        before = {name: tensor.data for name, tensor in self.variables.items()}
        # a complex evaluation may overflow in a branch that is not taken; whether its result is finite is asked where it is used
        with self.held.still(), np.errstate(all="ignore"):
            try:
                for name, tensor in self.variables.items():
                    tensor.data = point[name]
                if backend is None:
                    yield
                else:
                    with use_backend(backend):
                        yield
            finally:
                for name, tensor in self.variables.items():
                    tensor.data = before[name]

    def value(self, point: Mapping[str, Array]) -> Array:
        """f at the point, without a graph."""
        with self.at(point), no_grad():
            return self._output().data

    def gradients(self, point: Mapping[str, Array], cotangent: Array, backend: str | None = "numpy") -> dict[str, Array]:
        """J' u by the backward pass; zeros where f depends on no variable at all."""
        with self.at(point, backend):
            y = self._output()
            if not y.number:
                return {name: xp(a).zeros_like(a) for name, a in point.items()}
            return dict(zip(point, gradients(y, [self.variables[name] for name in point], cotangent.astype(y.dtype)), strict=True))

    def _output(self) -> Tensor:
        y = self.f(*self.arguments)
        if not isinstance(y, Tensor):
            raise ShapeError(f"gradcheck: f returned a {type(y).__name__}; need one Tensor, any shape")
        return y
