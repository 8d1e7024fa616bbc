"""Module, the base of layers and models, and how their weights start.

A Module finds its parameters by walking its attributes (Tensors, Modules, and lists, tuples and dictionaries of these, however deep), in
the order of their names' creation.
Initial weights are drawn from a Stream that the constructor is given: the same seed makes the same model.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..backend import Array, to_device, xp
from ..engine import Tensor
from ..errors import ShapeError, UsageError
from ..random import Stream


def _first_names(found: dict[str, Any]) -> dict[str, Any]:
    first = {id(value): name for name, value in reversed(found.items())}
    return {name: value for name, value in found.items() if first[id(value)] == name}


class Module:
    """Base of layers and models.  Subclasses set attributes in __init__ and define forward(x)."""

    training = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "forward" in vars(cls):
            cls.__call__ = vars(cls)["forward"]  # type: ignore[method-assign]  # a layer that is called is its forward: tracebacks stay short

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.forward(*inputs, **options)

    def __repr__(self) -> str:
        """The layers as a tree, with the shapes of their weights and the number of their parameters."""
        return "\n".join(self._lines(""))

    def _lines(self, name: str, depth: int = 0) -> Iterator[str]:
        own = [f"{key} {value.shape}" for key, value in self.tree() if isinstance(value, Tensor)]
        plain = [f"{key}={value!r}" for key, value in vars(self).items() if isinstance(value, str | int | float) and key != "training"]
        size = sum(p.size for p in self.parameters())
        head = "  " * depth + (f"{name}: " if name else "") + f"{type(self).__name__}({', '.join(own + plain)})"
        yield f"{head}  {size:,} parameters" if size else head
        for inner, child in self.children():
            yield from child._lines(inner, depth + 1)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def tree(self) -> Iterator[tuple[str, Any]]:
        """(name, value) of every attribute, and of what lists, tuples and dictionaries among them hold, however deep."""
        for name, value in vars(self).items():
            yield from _leaves(name, value)

    def children(self) -> Iterator[tuple[str, "Module"]]:
        return ((name, value) for name, value in self.tree() if isinstance(value, Module))

    def named_parameters(self) -> dict[str, Tensor]:
        """{"encoder.layers.0.w": Tensor, ...}: everything that the optimizer moves; what is shared, once, by its first name.

        A Tensor that no gradient flows to, stop_gradient(...), is none of them: it is a buffer."""
        found = {name: value for name, value in self.tree() if isinstance(value, Tensor) and value.number}
        for name, child in self.children():
            found |= {f"{name}.{inner}": value for inner, value in child.named_parameters().items()}
        return _first_names(found)

    def parameters(self) -> list[Tensor]:
        return list(self.named_parameters().values())

    def named_buffers(self) -> dict[str, Array]:
        """Arrays that training moves without a gradient, running moments, and Tensors that are constants."""
        found = {name: value for name, value in self.tree() if name.partition(".")[0] in getattr(self, "buffers", ())}
        found |= {name: value.data for name, value in self.tree() if isinstance(value, Tensor) and not value.number}
        for name, child in self.children():
            found |= {f"{name}.{inner}": value for inner, value in child.named_buffers().items()}
        return _first_names(found)

    def named_streams(self) -> dict[str, Stream]:
        """The streams that layers draw from: their counters belong to a checkpoint."""
        found = {name: value for name, value in self.tree() if isinstance(value, Stream)}
        for name, child in self.children():
            found |= {f"{name}.{inner}": value for inner, value in child.named_streams().items()}
        return found

    def state(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers by name, on the CPU."""
        arrays = {name: p.data for name, p in self.named_parameters().items()} | self.named_buffers()
        return {name: np.array(to_device(a, "cpu")) for name, a in arrays.items()}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Copy a state() in; every name and shape must fit, or nothing is changed."""
        own = {name: p.data for name, p in self.named_parameters().items()} | self.named_buffers()
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or unknown:
            raise ShapeError(
                f"load_state: missing {missing or 'nothing'}, unknown {unknown or 'nothing'}; the model has another architecture"
            )
        for name, a in own.items():
            if a.shape != state[name].shape:
                raise ShapeError(f"load_state: {name} is {state[name].shape}, the model's is {a.shape}; the model has another architecture")
        for name, a in own.items():
            a[...] = xp(a).asarray(state[name])

    def modules(self) -> Iterator["Module"]:
        yield self
        for _, child in self.children():
            yield from child.modules()

    def train(self, training: bool = True) -> "Module":
        """Choose how BatchNorm and Dropout behave: with batch moments and noise, or (False) with running moments and none."""
        for module in self.modules():
            module.training = training
        return self

    def to(self, device: str = "cpu", dtype: Any = None) -> "Module":
        """Move all parameters and buffers to "cpu" or "cuda", or to another dtype; in place.  Make the optimizer afterwards."""

        def moved(a: Array) -> Array:
            a = to_device(a, device)
            return a if dtype is None else a.astype(dtype)

        done: set[int] = set()  # a shared weight, or a shared layer, moves once
        for module in self.modules():
            for name, value in list(module.tree()):
                if isinstance(value, Tensor) and id(value) not in done:
                    done.add(id(value))
                    value.data = moved(value.data)
                elif isinstance(value, np.ndarray) and name in getattr(module, "buffers", ()):
                    setattr(module, name, moved(value))
        return self


@contextmanager
def evaluating(*modules: Any) -> Iterator[None]:
    """Evaluation mode inside the block; afterwards every layer is in the mode that it had."""
    every = [layer for module in modules for layer in module.modules()]
    before = [layer.training for layer in every]
    for layer in every:
        layer.training = False
    try:
        yield
    finally:
        for layer, training in zip(every, before, strict=True):
            layer.training = training


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _leaves(f"{name}.{i}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(f"{name}.{key}", item)
    elif isinstance(value, set | frozenset) and any(isinstance(item, Tensor | Module) for item in value):
        raise UsageError(f"{name} is a set of parameters or layers, and a set has no order; keep them in a list")
    else:
        yield name, value


def uniform_init(rng: Stream, shape: tuple[int, ...], fan_in: int) -> Tensor:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)): LeCun's bound, the usual default of frameworks for weights and biases."""
    bound = 1 / math.sqrt(max(fan_in, 1))
    return Tensor((rng.uniform(shape) * np.float32(2 * bound) - np.float32(bound)).astype(np.float32))
