"""Recurrent layers over a whole sequence, with their gradients by back-propagation through time.

What a step feeds on splits in two: the input's part of all steps is one matrix product before the loop, the state's part one a step.  The
vjp mirrors it: the loop runs back through the states, and the gradients of the weights are one product each after it.
"""

import math

from ..backend import xp
from ..engine import Op
from ..kernels.checks import check_gru, check_lstm
from ..kernels.gpu import KERNELS as GPU
from .activations import sigmoid_of


def gru_reference(x, h0, w, u, b, c):
    """h_t = z_t h_(t-1) + (1 - z_t) n_t        x (N, T, I), h0 (N, H) -> all h_t (N, T, H)

    reset      r_t = sigmoid(x_t w_r + h_(t-1) u_r + b_r)       w = [w_r w_z w_n] (I, 3 H), u likewise (H, 3 H), b (3 H,)
    update     z_t = sigmoid(x_t w_z + h_(t-1) u_z + b_z)
    candidate  n_t = tanh(x_t w_n + b_n + r_t (h_(t-1) u_n + c))      c (H,)

    K. Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014, eq. 5-8; the reset gate acts after the matrix
    product, as in cuDNN and the frameworks on it, not before: one product a step instead of two.
    """
    check_gru(x, h0, w, u, b, c)
    (n, steps, _), units = x.shape, u.shape[0]
    module, a = xp(x), time_first(x) @ w + b  # (T, N, 3 H)
    h = module.empty((steps + 1, n, units), module.result_type(a, h0, u, c))
    gates, recall = module.empty((steps, n, 3 * units), h.dtype), module.empty((steps, n, units), h.dtype)
    h[0] = h0
    for t in range(steps):
        from_state = h[t] @ u
        r, z, candidate = cut(gates[t], 3)
        gates[t, :, : 2 * units] = sigmoid_of(a[t, :, : 2 * units] + from_state[:, : 2 * units])
        recall[t] = from_state[:, 2 * units :] + c
        candidate[...] = module.tanh(a[t, :, 2 * units :] + r * recall[t])
        h[t + 1] = z * h[t] + (1 - z) * candidate
    return time_first(h[1:]), (x, w, u, h, gates, recall)


def gru_vjp(g, x, w, u, h, gates, recall, needs):
    module, units = xp(g), u.shape[0]
    dtype = module.result_type(g, h)
    ga, gstate = module.empty(gates.shape, dtype), module.empty(gates.shape, dtype)  # of x w + b, and of h u (+ c)
    gh = module.zeros(h.shape[1:], dtype)
    for t in reversed(range(len(gates))):
        r, z, candidate = cut(gates[t], 3)
        gh = gh + g[:, t]
        gn = gh * (1 - z) * (1 - candidate * candidate)
        ga[t, :, :units] = gn * recall[t] * r * (1 - r)
        ga[t, :, units : 2 * units] = gh * (h[t] - candidate) * z * (1 - z)
        ga[t, :, 2 * units :] = gn
        gstate[t] = ga[t]
        gstate[t, :, 2 * units :] *= r
        gh = gh * z + gstate[t] @ u.T
    gx, gw, gu, gb = weight_gradients(ga, gstate, x, h, w, u, needs)
    return gx, gh, gw, gu, gb, gstate[..., 2 * units :].sum(axis=(0, 1))


def lstm_reference(x, h0, c0, w, u, b):
    """c_t = f_t c_(t-1) + i_t n_t,  h_t = o_t tanh(c_t)        x (N, T, I), h0, c0 (N, H) -> all h_t (N, T, H), the last c_t (N, H)

    input      i_t = sigmoid(x_t w_i + h_(t-1) u_i + b_i)       w = [w_i w_f w_n w_o] (I, 4 H), u likewise (H, 4 H), b (4 H,)
    forget     f_t = sigmoid(x_t w_f + h_(t-1) u_f + b_f)
    candidate  n_t = tanh(x_t w_n + h_(t-1) u_n + b_n)
    output     o_t = sigmoid(x_t w_o + h_(t-1) u_o + b_o)

    S. Hochreiter and J. Schmidhuber, "Long short-term memory", 1997; forget gates: F. Gers, J. Schmidhuber and F. Cummins, 2000.
    """
    check_lstm(x, h0, c0, w, u, b)
    (n, steps, _), units = x.shape, u.shape[0]
    module, a = xp(x), time_first(x) @ w + b  # (T, N, 4 H)
    h = module.empty((steps + 1, n, units), module.result_type(a, h0, c0, u))
    c, gates = module.empty(h.shape, h.dtype), module.empty((steps, n, 4 * units), h.dtype)
    h[0], c[0] = h0, c0
    for t in range(steps):
        total = a[t] + h[t] @ u
        gates[t] = sigmoid_of(total)
        i, f, candidate, o = cut(gates[t], 4)
        candidate[...] = module.tanh(cut(total, 4)[2])
        c[t + 1] = f * c[t] + i * candidate
        h[t + 1] = o * module.tanh(c[t + 1])
    return (time_first(h[1:]), c[-1]), (x, w, u, h, c, gates)


def lstm_vjp(g, x, w, u, h, c, gates, needs):
    gy, gc = g
    module = xp(gy)
    ga = module.empty(gates.shape, module.result_type(gy, gc, h))
    gh = module.zeros(h.shape[1:], ga.dtype)
    for t in reversed(range(len(gates))):
        i, f, candidate, o = cut(gates[t], 4)
        gi, gf, gn, go = cut(ga[t], 4)
        gh = gh + gy[:, t]
        squashed = module.tanh(c[t + 1])
        gc = gc + gh * o * (1 - squashed * squashed)
        gi[...] = gc * candidate * i * (1 - i)
        gf[...] = gc * c[t] * f * (1 - f)
        gn[...] = gc * i * (1 - candidate * candidate)
        go[...] = gh * squashed * o * (1 - o)
        gc = gc * f
        gh = ga[t] @ u.T
    gx, gw, gu, gb = weight_gradients(ga, ga, x, h, w, u, needs)
    return gx, gh, gc, gw, gu, gb


def weight_gradients(ga, gstate, x, h, w, u, needs):
    """Of x, w, u and b, from those of a = x w + b and of h u.     ga, gstate (T, N, G), x (N, T, I), h (T + 1, N, H)"""
    rows, columns = math.prod(ga.shape[:2]), ga.shape[2]
    flat = ga.reshape(rows, columns)
    gx = time_first(ga @ w.T) if needs[0] else None  # an image at the input has no use for it
    gw = time_first(x).reshape(rows, w.shape[0]).T @ flat
    gu = h[:-1].reshape(rows, u.shape[0]).T @ gstate.reshape(rows, columns)
    return gx, gw, gu, flat.sum(axis=0)


def time_first(a):
    """(N, T, F) <-> (T, N, F): a step is then one block of memory."""
    return xp(a).ascontiguousarray(a.swapaxes(0, 1))


def cut(a, sections):
    """Equal sections of the last axis, as views."""
    width = a.shape[-1] // sections
    return [a[..., k * width : (k + 1) * width] for k in range(sections)]


gru = Op("gru", numpy=(gru_reference, gru_vjp), cupy=GPU["gru"])
lstm = Op("lstm", numpy=(lstm_reference, lstm_vjp), cupy=GPU["lstm"])
