"""JAX as a contestant: the whole step, noise and Adam among it, is one compiled function that reuses its arguments' memory."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from minivae.cli.bench import LEARNING_RATE, Workload

LAYOUT = ("NHWC", "HWIO", "NHWC")
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
Params = dict[str, Any]


def loss_of(w: Workload, p: Params, x: Any, eps: Any) -> Any:
    act = {"relu": jax.nn.relu, "tanh": jnp.tanh}[w.activation]

    def dense(name: str, h: Any) -> Any:
        return h @ p[f"{name}.W"] + p[f"{name}.b"]

    h = x
    for i, (_, kernel, stride) in enumerate(w.convs):
        padding = (kernel - 1) // 2
        h = jax.lax.conv_general_dilated(h, p[f"ec{i}.W"], (stride, stride), [(padding, padding)] * 2, dimension_numbers=LAYOUT)
        h = act(h + p[f"ec{i}.b"])
    h = h.reshape(len(x), -1)
    for i in range(len(w.hidden)):
        h = act(dense(f"e{i}", h))
    mean, logvar = jnp.split(dense("head", h), 2, -1)
    z = mean + jnp.exp(0.5 * logvar) * (eps if w.samples else eps[0])
    h = z
    for i in range(len(w.hidden) + 1):
        h = dense(f"d{i}", h)
        if w.convs or i < len(w.hidden):
            h = act(h)
    if w.convs:
        h = h.reshape(len(x), *w.sizes[-1], -1)
    for i, (_, kernel, stride) in enumerate(w.convs[::-1]):
        # transposed convolution: the flipped kernel over the image with stride - 1 zeros between its pixels
        edges = []
        for small, size in zip(w.sizes[-1 - i], w.sizes[-2 - i], strict=True):
            before = kernel - 1 - (kernel - 1) // 2
            edges.append((before, size + kernel - 1 - ((small - 1) * stride + 1) - before))
        flipped = jnp.flip(p[f"dc{i}.W"], (0, 1))
        h = jax.lax.conv_general_dilated(h, flipped, (1, 1), edges, lhs_dilation=(stride, stride), dimension_numbers=LAYOUT)
        h = h + p[f"dc{i}.b"]
        if i < len(w.convs) - 1:
            h = act(h)
    cost = jax.nn.softplus(h) - x * h
    if w.samples:
        log_weight = 0.5 * (eps * eps + logvar).sum(-1) - cost.sum(-1) - 0.5 * (z * z).sum(-1)
        return math.log(w.samples) - jax.scipy.special.logsumexp(log_weight, 0).mean()
    return (cost.sum() - 0.5 * jnp.sum(1 + logvar - mean**2 - jnp.exp(logvar))) / len(x)


def contestant(generator: str) -> Callable[..., Any]:
    """A factory.  generator: "threefry2x32" is JAX's default, "unsafe_rbg" its fastest."""

    def factory(w: Workload, init: dict[str, np.ndarray], x: np.ndarray) -> tuple[Any, Any]:
        def update(state: Any, x: Any) -> tuple[Any, Any]:
            p, m, v, t, key = state
            key, now = jax.random.split(key)
            eps = jax.random.normal(now, (max(w.samples, 1), w.batch, w.latent))
            loss, g = jax.value_and_grad(lambda p: loss_of(w, p, x, eps))(p)
            t = t + 1
            m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, g)
            v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, g)
            scale, root = LEARNING_RATE / (1 - BETA1**t), 1 / jnp.sqrt(1 - BETA2**t)
            p = jax.tree.map(lambda p, m, v: p - scale * m / (jnp.sqrt(v) * root + EPSILON), p, m, v)
            return (p, m, v, t, key), loss

        compiled = jax.jit(update, donate_argnums=0)
        p = {name: jnp.array(a) for name, a in init.items() if name[:2] not in ("mu", "lv")}
        for part in "Wb":  # one product for both halves of the head
            p[f"head.{part}"] = jnp.array(np.concatenate([init[f"mu.{part}"], init[f"lv.{part}"]], -1))
        images = jnp.asarray(x)
        start = jax.tree.map(np.asarray, p)  # the first step gives p's memory away
        zeros = jax.tree.map(jnp.zeros_like, p)
        state = (p, zeros, jax.tree.map(jnp.zeros_like, p), jnp.float32(0), jax.random.key(0, impl=generator))

        def step() -> Any:
            nonlocal state
            state, loss = compiled(state, images)
            return loss

        step.sync = lambda: jax.block_until_ready(state)  # type: ignore[attr-defined]
        return step, lambda eps: float(loss_of(w, start, images, jnp.asarray(eps)))

    return factory


threefry = contestant("threefry2x32")
rbg = contestant("unsafe_rbg")
