"""Recurrent layers on the GPU.  Equations: minivae/ops/recurrent.py; kernels: recurrent.cu, gemm.cu, columns.cu.

The input's part of all steps is one product; then a step is a product with u and one kernel for the gates.  Nothing waits for the device,
so a whole sequence can be captured.
"""

from ...backend import Array, xp
from ..checks import check_gru, check_lstm
from .arrays import plain
from .dense import dense_vjp, gemm
from .launcher import Kernel, empty

UNITS = "int64 n, int64 units"
GRU_STEP = Kernel(
    "gru_step",
    "recurrent.cu",
    "float32[3 * n] a, float32[3 * n] from_state, float32[units] c, float32[n] h, float32[3 * n] gates, float32[n] recall, "
    f"float32[n] next, {UNITS}",
    grid="spread(n)",
)
GRU_STEP_GRADIENT = Kernel(
    "gru_step_gradient",
    "recurrent.cu",
    "float32[n] g, float32?[n] product, float32[n] carry, float32[3 * n] gates, float32[n] recall, float32[n] h, float32[3 * n] ga, "
    "float32[3 * n] gstate, " + UNITS,
    grid="spread(n)",
)
LSTM_STEP = Kernel(
    "lstm_step",
    "recurrent.cu",
    "float32[4 * n] a, float32[4 * n] from_state, float32[n] c, float32[4 * n] gates, float32[n] next_c, float32[n] next_h, " + UNITS,
    grid="spread(n)",
)
LSTM_STEP_GRADIENT = Kernel(
    "lstm_step_gradient",
    "recurrent.cu",
    "float32[n] g, float32?[n] product, float32[n] carry, float32[4 * n] gates, float32[n] c, float32[n] next_c, float32[4 * n] ga, "
    + UNITS,
    grid="spread(n)",
)


def time_first(a: Array) -> Array:
    """(N, T, F) <-> (T, N, F), plain: a step is then one block of memory."""
    return plain(a.swapaxes(0, 1))


def copied(a: Array) -> Array:
    own = empty(a.shape)
    own[...] = a
    return own


def states(steps: int, first: Array) -> Array:
    """Room for the states of all steps behind the first.   (N, H) -> (T + 1, N, H)"""
    h = empty((steps + 1, *first.shape))
    h[0] = first
    return h


def gru_forward(x: Array, h0: Array, w: Array, u: Array, b: Array, c: Array) -> tuple[Array, tuple]:
    check_gru(x, h0, w, u, b, c)
    x, w, u, c = time_first(x), plain(w), plain(u), plain(c)
    steps, n, inputs = x.shape
    units = len(u)
    a = gemm(x.reshape(steps * n, inputs), w, bias=plain(b)).reshape(steps, n, 3 * units)
    h, gates, recall = states(steps, h0), empty(a.shape), empty((steps, n, units))
    for t in range(steps):
        GRU_STEP(a[t], gemm(h[t], u), c, h[t], gates[t], recall[t], h[t + 1], n * units, units)
    return xp(h).ascontiguousarray(h[1:].swapaxes(0, 1)), (x, w, u, h, gates, recall)


def gru_vjp(g: Array, x: Array, w: Array, u: Array, h: Array, gates: Array, recall: Array, needs: tuple[bool, ...]) -> tuple:
    (steps, n, _), units = gates.shape, len(u)
    g, ga, gstate = time_first(g), empty(gates.shape), empty(gates.shape)  # of x w + b, and of h u (+ c)
    carry, product = empty(h.shape[1:]), None
    carry[...] = 0
    for t in reversed(range(steps)):
        GRU_STEP_GRADIENT(g[t], product, carry, gates[t], recall[t], h[t], ga[t], gstate[t], n * units, units)
        product = gemm(gstate[t], u, transpose_b=True)
    gh = carry if product is None else carry + product
    gx, gw, gu, gb, gc = weight_gradients(ga, gstate, x, h, w, u, needs)
    return gx, gh, gw, gu, gb, gc[2 * units :]


def lstm_forward(x: Array, h0: Array, c0: Array, w: Array, u: Array, b: Array) -> tuple[tuple[Array, Array], tuple]:
    check_lstm(x, h0, c0, w, u, b)
    x, w, u = time_first(x), plain(w), plain(u)
    steps, n, inputs = x.shape
    units = len(u)
    a = gemm(x.reshape(steps * n, inputs), w, bias=plain(b)).reshape(steps, n, 4 * units)
    h, c, gates = states(steps, h0), states(steps, c0), empty(a.shape)
    for t in range(steps):
        LSTM_STEP(a[t], gemm(h[t], u), c[t], gates[t], c[t + 1], h[t + 1], n * units, units)
    return (xp(h).ascontiguousarray(h[1:].swapaxes(0, 1)), c[-1]), (x, w, u, h, c, gates)


def lstm_vjp(g: tuple[Array, Array], x: Array, w: Array, u: Array, h: Array, c: Array, gates: Array, needs: tuple[bool, ...]) -> tuple:
    (steps, n, _), units = gates.shape, len(u)
    gy, ga, gc = time_first(g[0]), empty(gates.shape), copied(g[1])
    product = None
    for t in reversed(range(steps)):
        LSTM_STEP_GRADIENT(gy[t], product, gc, gates[t], c[t], c[t + 1], ga[t], n * units, units)
        product = gemm(ga[t], u, transpose_b=True)
    gh = product
    if gh is None:
        gh = empty(h.shape[1:])
        gh[...] = 0
    gx, gw, gu, gb, _ = weight_gradients(ga, ga, x, h, w, u, needs)
    return gx, gh, gc, gw, gu, gb


def weight_gradients(ga: Array, gstate: Array, x: Array, h: Array, w: Array, u: Array, needs: tuple[bool, ...]) -> tuple:
    """Of x, w, u, b and c, from those of a = x w + b and of h u + c.     ga, gstate (T, N, G), x (T, N, I), h (T + 1, N, H)"""
    gx, gw, gb = dense_vjp(ga, x, w, ga, 0, (needs[0], True, True))  # an image at the input has no use for a gradient
    _, gu, gc = dense_vjp(gstate, h[:-1], u, gstate, 0, (False, True, True))
    return None if gx is None else time_first(gx), gw, gu, gb, gc


gru = (gru_forward, gru_vjp)
lstm = (lstm_forward, lstm_vjp)
