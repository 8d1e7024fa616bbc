"""SGD, Adam and AdamW over one flat array of parameters, and gradient clipping.

An optimizer moves the parameters into one array (each Tensor becomes a view of it), so that a step is one pass over memory.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend import Array, backend_of, to_device, xp
from ..engine import Tensor
from ..errors import ShapeError, UsageError
from ..kernels.cpu import adam
from ..kernels.gpu import step as gpu

ALIGN = 16  # parameters start at multiples of 16 numbers: 64 bytes of float32, a cache line and a vector register


class Optimizer:
    """Base class.  `lr` may be changed between steps; step() counts in `steps`."""

    slots: tuple[str, ...] = ()  # names of the flat arrays that the rule keeps

    def __init__(self, params: Sequence[Tensor], lr: float):
        if not params:
            raise UsageError("the optimizer got no parameters; pass model.parameters()")
        if not (math.isfinite(lr) and lr > 0):
            raise UsageError(f"the learning rate is {lr}; need a positive number")
        self.params, self.lr, self.steps = list(params), lr, 0
        if len(set(self.params)) < len(self.params):
            raise UsageError("the optimizer got a parameter twice, and would step it twice; Module.parameters() names each once")
        if any(not p.number for p in self.params):
            raise UsageError("the optimizer got a constant, which no gradient flows to; leave it out, or make it a variable: Tensor(data)")
        first = self.params[0].data
        for p in self.params:
            if p.dtype != first.dtype or xp(p.data) is not xp(first):
                raise ShapeError(
                    f"the parameters are {p.dtype} and {first.dtype}, or on two devices; bring them together with model.to(...)"
                )
        starts = np.cumsum([0] + [-(-p.size // ALIGN) * ALIGN for p in self.params])
        self.starts = starts[:-1].tolist()
        self.slices = [slice(int(a), int(a) + p.size) for a, p in zip(starts, self.params, strict=False)]
        self.flat = xp(first).zeros(int(starts[-1]), first.dtype)
        for p, where in zip(self.params, self.slices, strict=True):
            self.flat[where] = p.data.reshape(-1)
            p.data = self.flat[where].reshape(p.shape)
        self.views = [p.data for p in self.params]
        for name in self.slots:
            setattr(self, name, xp(first).zeros_like(self.flat))

    def step(self, gradients: Sequence[Array]) -> None:
        """Move every parameter once; gradients in the order of the parameters."""
        if len(gradients) != len(self.params):
            raise ShapeError(f"optimizer.step: {len(gradients)} gradients for {len(self.params)} parameters")
        for i, (p, view, g) in enumerate(zip(self.params, self.views, gradients, strict=True)):
            if p.data is not view:
                raise UsageError(
                    f"optimizer.step: parameter {i} of {len(self.params)} no longer lies where this optimizer steps: another optimizer was "
                    "made for it, or it was moved by model.to(...) or given another array; make one optimizer, after that"
                )
            if g.shape != view.shape:
                raise ShapeError(f"optimizer.step: gradient {i} is {g.shape}, its parameter is {view.shape}; need equal shapes")
        self.steps += 1
        self.update_all(gradients)

    def update_all(self, gradients: Sequence[Array]) -> None:
        for where, g in zip(self.slices, gradients, strict=True):
            self.update(where, g.reshape(-1))

    def update(self, where: slice, g: Array) -> None:
        """The rule, on one parameter's part of the flat arrays."""
        raise NotImplementedError

    def state(self) -> dict[str, np.ndarray]:
        """Copies of the flat arrays that the rule keeps, and the step count, on the CPU."""
        return {name: np.array(to_device(getattr(self, name), "cpu")) for name in self.slots} | {"steps": np.array(self.steps)}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        for name in self.slots:
            own = getattr(self, name)
            if name not in state or state[name].shape != own.shape:
                raise ShapeError(f"optimizer.load_state: no {name!r} of shape {own.shape}; it belongs to another optimizer or model")
        for name in self.slots:
            own = getattr(self, name)
            own[...] = xp(own).asarray(state[name])
        self.steps = int(state["steps"])


class SGD(Optimizer):
    """v <- momentum v + g,  p <- p - lr v"""

    slots = ("velocity",)
    velocity: Array

    def __init__(self, params: Sequence[Tensor], lr: float, momentum: float = 0.0):
        if not 0 <= momentum < 1:
            raise UsageError(f"SGD: momentum is {momentum}; need 0 <= momentum < 1")
        super().__init__(params, lr)
        self.momentum = momentum

    def update(self, where: slice, g: Array) -> None:
        v = self.velocity[where]
        v *= self.momentum
        v += g
        self.flat[where] -= self.lr * v


class Adam(Optimizer):
    """m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2,  p <- p - lr m' / (sqrt(v') + eps)

    with m' = m / (1 - b1^t) and v' = v / (1 - b2^t) at step t.  D. P. Kingma and J. Ba, "Adam", 2015, algorithm 1.
    weight_decay > 0 shrinks p by lr weight_decay p as well (AdamW).
    """

    slots = ("m", "v")
    m: Array
    v: Array

    def __init__(
        self,
        params: Sequence[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        if not (0 <= betas[0] < 1 and 0 <= betas[1] < 1 and eps > 0 and weight_decay >= 0):
            raise UsageError(
                f"Adam: betas are {betas}, eps is {eps}, weight_decay is {weight_decay}; need betas in [0, 1), eps > 0, decay >= 0"
            )
        super().__init__(params, lr)
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        self.places: Any = None  # of the gradients of the last step, for the kernel
        if self.has_kernel:  # what the kernel reads in the memory of the GPU
            self.now, self.rate = xp(self.flat).zeros(4, np.uint64), xp(self.flat).zeros(1, np.float32)

    @property
    def has_kernel(self) -> bool:
        """Whether the parameters are updated by the one kernel of a GPU."""
        return self.flat.dtype == np.float32 and backend_of(self.flat) == "cupy"

    def update_all(self, gradients: Sequence[Array]) -> None:
        if self.has_kernel:
            self.now[1] = self.steps
            self.rate.fill(self.lr)
            self.launch(self.now, gradients)
        elif self.flat.dtype == np.float32 and backend_of(self.flat) == "numba":
            decay, self.places = self.weight_decay, self.places or adam.Places(self.starts)
            adam.adam(self.flat, self.m, self.v, gradients, self.places, self.lr, *self.betas, self.eps, decay, self.steps)
        else:
            super().update_all(gradients)

    def launch(self, now: Array, gradients: Sequence[Array], health: Array | None = None, clip: tuple[Array, float] | None = None) -> None:
        """Update number now[1], by the kernel alone: no number of this object but `rate` changes from step to step."""
        flat = self.flat, self.m, self.v
        gpu.adam(now, self.rate, flat, self.slices, gradients, self.betas, self.eps, self.weight_decay, health, clip)

    def update(self, where: slice, g: Array) -> None:
        b1, b2 = self.betas
        p, m, v = self.flat[where], self.m[where], self.v[where]
        m *= b1
        m += (1 - b1) * g
        v *= b2
        v += (1 - b2) * (g * g)
        if self.weight_decay:
            p *= 1 - self.lr * self.weight_decay
        p -= self.lr / (1 - b1**self.steps) * m / (xp(v).sqrt(v) / math.sqrt(1 - b2**self.steps) + self.eps)


class AdamW(Adam):
    """Adam with decoupled weight decay.  I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", 2019, algorithm 2."""

    def __init__(
        self,
        params: Sequence[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        super().__init__(params, lr, betas, eps, weight_decay)


def gradient_norm(gradients: Sequence[Array]) -> float:
    """sqrt(sum of squares) over all gradients together"""
    if _on_gpu(gradients):
        return math.sqrt(float(gpu.squares(gradients)[0]))
    return math.sqrt(sum(adam.sum_of_squares(g) if g.dtype == np.float32 and xp(g) is np else float(xp(g).vdot(g, g)) for g in gradients))


def clip_gradients(gradients: Sequence[Array], max_norm: float) -> list[Array]:
    """Gradients scaled down together so that their norm is at most max_norm.  Pascanu, Mikolov and Bengio 2013, algorithm 1."""
    if _on_gpu(gradients):  # the CPU is not asked for the norm: so it may be part of a graph
        module, norm = xp(gradients[0]), xp(gradients[0]).sqrt(gpu.squares(gradients)[0])
        factor = module.minimum(max_norm / norm, 1.0).astype(np.float32)
        return [g * factor for g in gradients]
    norm = gradient_norm(gradients)
    return list(gradients) if norm <= max_norm else [g * g.dtype.type(max_norm / norm) for g in gradients]


def _on_gpu(gradients: Sequence[Array]) -> bool:
    return len(gradients) > 0 and all(g.dtype == np.float32 and backend_of(g) == "cupy" for g in gradients)
