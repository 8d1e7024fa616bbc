"""What bits-back does to the messages of many blocks, one state each: compress/bits_back.py has the order, compress/reference.py the
same written to be read.

heads (B,) uint64 are the states, words (B, room) uint32 what has left them, sizes (B,) int64 how many; lows (B,) the least that a size has
been.  A message that runs out, or that says what has no slot, gets the size -1, and nothing touches it from then on.
"""

import numpy as np

from .jit import inline_exact, kernel

U = np.uint64
LOW = U(0x100000000)
MASK = U(0xFFFFFFFF)


@inline_exact
def pushed(h, words, size, start, frequency, r, noise):
    """(state, size) after a symbol, its slot exclusive-or noise."""
    f = U(frequency)
    if h >> (U(64) - r) >= f:
        words[size] = np.uint32(h & MASK)
        size += 1
        h >>= U(32)
    quotient = h // f
    return (quotient << r) + (((h - quotient * f) + U(start)) ^ noise), size


@inline_exact
def popped(h, words, size, start, frequency, r, noise):
    """(state, size) after a symbol was taken off, whose slot is in the state; size -1 if the words ran out."""
    h = U(frequency) * (h >> r) + ((h & ((U(1) << r) - U(1))) ^ noise) - U(start)
    if h < LOW:
        if size == 0:
            return h, -1
        size -= 1
        h = (h << U(32)) | U(words[size])
    return h, size


@inline_exact
def interpolated(table, t, end):
    """A distribution function at t, an integer of 2^-32, by its table from -end to end in steps of 2^-8: an integer of 2^-46."""
    limit = np.int64(end) << 32
    t = min(max(t, -limit), limit) + limit
    i = t >> 24
    return (table[i] << 16) + (table[i + 1] - table[i]) * ((t >> 8) & 0xFFFF)


@inline_exact
def edge(i, mean, inverse, edges, table, q, least):
    """The first slot of latent bin i under N(mean, sigma^2), of 2^q; each bin has `least` slots beside, 0 or 1."""
    if i == 0:
        return 0
    if i == edges.size - 1:
        return np.int64(1) << q
    if least:
        share = interpolated(table, (edges[i] - mean) * inverse, 8) >> 16
        return ((share * ((np.int64(1) << q) - (edges.size - 1))) >> 30) + i
    return (interpolated(table, (edges[i] - mean) * inverse, 8) + (np.int64(1) << (45 - q))) >> (46 - q)


@kernel(exact=True)
def pop_latents(heads, words, sizes, lows, means, inverses, noise, edges, table, q, least, bins):
    """z ~ q(z | x), the first latent first.     means, inverses (B, K) of 2^-16; noise (B, K) uint64 below 2^q; bins (B, K)"""
    mask = (U(1) << U(q)) - U(1)
    for b in range(heads.size):
        h, size = heads[b], sizes[b]
        for k in range(bins.shape[1]):
            if size < 0:
                break
            mean, inverse, slot = means[b, k], inverses[b, k], np.int64((h & mask) ^ noise[b, k])
            low, high = 0, edges.size - 1
            while high - low > 1:
                middle = (low + high) // 2
                if edge(middle, mean, inverse, edges, table, q, least) <= slot:
                    low = middle
                else:
                    high = middle
            start = edge(low, mean, inverse, edges, table, q, least)
            h, size = popped(h, words[b], size, start, edge(low + 1, mean, inverse, edges, table, q, least) - start, U(q), noise[b, k])
            bins[b, k] = low
            lows[b] = min(lows[b], size)
        heads[b], sizes[b] = h, size


@kernel(exact=True)
def push_latents(heads, words, sizes, means, inverses, noise, edges, table, q, least, bins):
    """The inverse, the last latent first."""
    for b in range(heads.size):
        h, size = heads[b], sizes[b]
        for k in range(bins.shape[1] - 1, -1, -1):
            if size < 0:
                break
            mean, inverse = means[b, k], inverses[b, k]
            start = edge(bins[b, k], mean, inverse, edges, table, q, least)
            frequency = edge(bins[b, k] + 1, mean, inverse, edges, table, q, least) - start
            if frequency <= 0:
                size = -1
                break
            h, size = pushed(h, words[b], size, start, frequency, U(q), noise[b, k])
        heads[b], sizes[b] = h, size


@kernel(exact=True)
def push_uniform(heads, words, sizes, bins, p):
    """Latents under the prior, of which each of 2^p bins has the same."""
    for b in range(heads.size):
        h, size = heads[b], sizes[b]
        if size >= 0:
            for k in range(bins.shape[1]):
                h, size = pushed(h, words[b], size, bins[b, k], 1, U(p), U(0))
        heads[b], sizes[b] = h, size


@kernel(exact=True)
def pop_uniform(heads, words, sizes, bins, p):
    mask = (U(1) << U(p)) - U(1)
    for b in range(heads.size):
        h, size = heads[b], sizes[b]
        for k in range(bins.shape[1] - 1, -1, -1):
            if size < 0:
                break
            bins[b, k] = np.int64(h & mask)
            h, size = popped(h, words[b], size, bins[b, k], 1, U(p), U(0))
        heads[b], sizes[b] = h, size


@kernel(exact=True)
def push_binary(heads, words, sizes, ones, r, pixels):
    """ones (B, D): the slots of a one, the last of 2^r; pixels (B, D) uint8, 0 or 1"""
    total = np.int64(1) << r
    for b in range(heads.size):
        h, size = heads[b], sizes[b]
        if size >= 0:
            for d in range(pixels.shape[1]):
                one = ones[b, d]
                if pixels[b, d]:
                    h, size = pushed(h, words[b], size, total - one, one, U(r), U(0))
                else:
                    h, size = pushed(h, words[b], size, 0, total - one, U(r), U(0))
        heads[b], sizes[b] = h, size


@kernel(exact=True)
def pop_binary(heads, words, sizes, ones, r, pixels):
    total, mask = np.int64(1) << r, (U(1) << U(r)) - U(1)
    for b in range(heads.size):
        h, size = heads[b], sizes[b]
        for d in range(pixels.shape[1] - 1, -1, -1):
            if size < 0:
                break
            one = ones[b, d]
            is_one = np.int64(h & mask) >= total - one
            pixels[b, d] = is_one
            if is_one:
                h, size = popped(h, words[b], size, total - one, one, U(r), U(0))
            else:
                h, size = popped(h, words[b], size, 0, total - one, U(r), U(0))
        heads[b], sizes[b] = h, size


@inline_exact
def beta_binomial_cumulative(alpha, beta, r, weights, starts):
    """The first slots of 256 levels, of 2^r, each with one at least.  p(k) from the mode on both ways by p(k + 1) / p(k)."""
    turn = alpha + beta - 2.0
    top = np.int64(0)
    if turn > 0:
        top = np.int64(min(max(np.ceil((255.0 * (alpha - 1.0) + 1.0 - beta) / turn), 0.0), 255.0))
    weights[top] = 1.0
    for k in range(top, 255):
        weights[k + 1] = weights[k] * (((255.0 - k) * (k + alpha)) / ((k + 1.0) * (254.0 - k + beta)))
    for k in range(top, 0, -1):
        weights[k - 1] = weights[k] * ((k * (255.0 - k + beta)) / ((256.0 - k) * (k - 1.0 + alpha)))
    total = 0.0
    for k in range(256):
        total = total + weights[k]
    scale = ((np.int64(1) << r) - 256) / total
    below = 0.0
    for k in range(256):
        starts[k] = np.int64(below * scale) + k
        below = below + weights[k]
    starts[256] = np.int64(1) << r


@inline_exact
def logistic_start(k, mean, inverse, table, r):
    """The first slot of level k under a logistic, of 2^r, each level with one at least."""
    if k == 0:
        return 0
    if k == 256:
        return np.int64(1) << r
    place = ((2 * k - 1) * 65536 + 255) // 510  # of (k - 1/2) / 255, to the nearest 2^-16
    share = interpolated(table, (place - mean) * inverse, 24) >> 16
    return ((share * ((np.int64(1) << r) - 256)) >> 30) + k


@kernel(exact=True)
def push_levels(heads, words, sizes, first, second, kind, table, r, pixels):
    """kind 0: alpha, beta (B, D) float64 of beta-binomials;  1: means, 1 / scale (B, D) of logistics as integers of 2^-16"""
    weights, starts = np.empty(256), np.empty(257, np.int64)
    for b in range(heads.size):
        h, size = heads[b], sizes[b]
        if size >= 0:
            for d in range(pixels.shape[1]):
                k = np.int64(pixels[b, d])
                if kind == 0:
                    beta_binomial_cumulative(first[b, d], second[b, d], r, weights, starts)
                    start, end = starts[k], starts[k + 1]
                else:
                    mean, inverse = np.int64(first[b, d]), np.int64(second[b, d])
                    start, end = logistic_start(k, mean, inverse, table, r), logistic_start(k + 1, mean, inverse, table, r)
                h, size = pushed(h, words[b], size, start, end - start, U(r), U(0))
        heads[b], sizes[b] = h, size


@kernel(exact=True)
def pop_levels(heads, words, sizes, first, second, kind, table, r, pixels):
    weights, starts = np.empty(256), np.empty(257, np.int64)
    mask = (U(1) << U(r)) - U(1)
    for b in range(heads.size):
        h, size = heads[b], sizes[b]
        for d in range(pixels.shape[1] - 1, -1, -1):
            if size < 0:
                break
            slot, low, high = np.int64(h & mask), 0, 256
            if kind == 0:
                beta_binomial_cumulative(first[b, d], second[b, d], r, weights, starts)
                while high - low > 1:
                    middle = (low + high) // 2
                    if starts[middle] <= slot:
                        low = middle
                    else:
                        high = middle
                start, end = starts[low], starts[low + 1]
            else:
                mean, inverse = np.int64(first[b, d]), np.int64(second[b, d])
                while high - low > 1:
                    middle = (low + high) // 2
                    if logistic_start(middle, mean, inverse, table, r) <= slot:
                        low = middle
                    else:
                        high = middle
                start, end = logistic_start(low, mean, inverse, table, r), logistic_start(low + 1, mean, inverse, table, r)
            pixels[b, d] = low
            h, size = popped(h, words[b], size, start, end - start, U(r), U(0))
        heads[b], sizes[b] = h, size


@kernel(exact=True)
def product(a, w, y):
    """y += a w, of integers in float64 whose sums are exact.     (N, I), (I, O), (N, O).  Row by row, four rows of w at a time, and only
    those that count: many of a are 0, dark pixels and units that a relu has switched off.  No BLAS, whose threads would contend with
    those that blocks are shared out to."""
    some, width = np.empty(a.shape[1], np.int64), w.shape[1]
    for i in range(a.shape[0]):
        n, out = 0, y[i]
        for k in range(a.shape[1]):
            if a[i, k] != 0.0:
                some[n] = k
                n += 1
        whole = n - n % 4
        for s in range(0, whole, 4):
            v0, v1, v2, v3 = a[i, some[s]], a[i, some[s + 1]], a[i, some[s + 2]], a[i, some[s + 3]]
            w0, w1, w2, w3 = w[some[s]], w[some[s + 1]], w[some[s + 2]], w[some[s + 3]]
            for j in range(width):
                out[j] += (v0 * w0[j] + v1 * w1[j]) + (v2 * w2[j] + v3 * w3[j])
        for s in range(whole, n):
            v, row = a[i, some[s]], w[some[s]]
            for j in range(width):
                out[j] += v * row[j]


@kernel(exact=True)
def round_off(y, scale, low, high):
    """y <- scale y to the nearest integer, halves up, within low and high, in place.     (n,)"""
    for i in range(y.size):
        y[i] = min(max(np.floor(y[i] * scale + 0.5), low), high)


@kernel(exact=True)
def places(y, scale, low, high, table, found):
    """found = table[scale y - low], scale y to the nearest integer, halves up, within low and high.     (n,), (high - low + 1,), (n,)"""
    for i in range(y.size):
        found[i] = table[np.int64(min(max(np.floor(y[i] * scale + 0.5), low), high) - low)]


@kernel(exact=True)
def gaussian(y, mean_scale, limit, sigma_scale, low, high, table, means, inverses):
    """Means, and of log sigma the place in a table of 1 / sigma that begins at the largest.     (N, 2 K) -> (N, K), (N, K)"""
    half = means.shape[1]
    for i in range(y.shape[0]):
        for k in range(half):
            means[i, k] = np.int64(min(max(np.floor(y[i, k] * mean_scale + 0.5), -limit), limit))
            inverses[i, k] = table[np.int64(high - min(max(np.floor(y[i, half + k] * sigma_scale + 0.5), low), high))]
