"""The geometry of a convolution as tables of offsets, from which tile.py reads images as if they were matrices.

Forward:  y[n, p, q, o] = sum_{i, j, c} x[n, sh p + i - top, sw q + j - left, c] w[i, j, c, o].  Row (p, q) of the matrix "patches of x"
begins at pixel (sh p, sw q) of the padded image, and its column (i, j, c) lies i rows, j pixels and c channels further on:

    padded image, C floats a pixel          A[(p, q), (i, j, c)] = image[ rows[p, q] + columns[i, j, c] ]
    . . . . . . . . . .
    . +-------+ . . . .                     rows[p, q]       = (sh p * Wp + sw q) C
    . | i,j   | . . . .                     columns[i, j, c] = (i * Wp + j) C + c
    . |  patch| . . . .
    . +-------+ . . . .

Its adjoint in x gives pixel h = sh t + phase - top of x the sum over the taps i = phase, phase + sh, ... that hit it, the i-th of them from
row t - (i - phase) / sh of g.  Pixels of one phase (in both directions: sh * sw phases) form an image of their own, a plain
correlation of g with every sh-th, sw-th tap: no multiplication by an inserted zero.
"""

import functools
from typing import NamedTuple

import numpy as np

from ..checks import Padding, Pair, output_size
from .tile import ROWS


class Plan(NamedTuple):
    """A correlation of padded images with kernels, for groups of images.  Offsets and sizes count floats."""

    geometry: tuple[int, int, int, int, int]  # Hp, Wp of a padded image; its row and column where the image begins; images a group
    padded_floats: int  # all padded images of a group
    rows: np.ndarray  # per phase, image and pixel: where its patch begins in the padded images of a group
    c_rows: np.ndarray  # ... and where its result goes in the result's images of a group
    columns: np.ndarray  # per phase and tap: where in a patch
    weights: np.ndarray  # ... and where its weight for the first result channel lies in w
    phases: np.ndarray  # (phases, 4): first entry in rows and c_rows, pixels an image, first entry in columns and weights, taps


def _sum(*terms: np.ndarray) -> np.ndarray:
    """The table of all sums, one term from each list, the last list running fastest."""
    return functools.reduce(np.add.outer, [np.asarray(t, np.int64) for t in terms]).reshape(-1)


def _group(pixels: int, image_floats: int) -> int:
    """Images a group: enough that the last, partly empty tile of a small image does not matter; no more than 256 KB of them."""
    return max(1, min(-(-8 * ROWS // max(pixels, 1)), (1 << 16) // max(image_floats, 1)))


@functools.lru_cache(maxsize=256)
def forward_plan(H: int, W: int, w_shape: tuple[int, ...], stride: Pair, padding: Padding) -> Plan:
    """x -> y."""
    KH, KW, C, O = w_shape
    (sh, sw), ((top, bottom), (left, right)) = stride, padding
    OH, OW = output_size(H, KH, sh, padding[0]), output_size(W, KW, sw, padding[1])
    Hp, Wp = H + top + bottom, W + left + right
    images = _group(OH * OW, Hp * Wp * C)
    image = np.arange(images)
    return Plan(
        (Hp, Wp, top, left, images),
        images * Hp * Wp * C,
        rows=_sum(image * (Hp * Wp * C), np.arange(OH) * (sh * Wp * C), np.arange(OW) * (sw * C)),
        c_rows=np.arange(images * OH * OW) * O,
        columns=_sum(np.arange(KH) * (Wp * C), np.arange(KW * C)),
        weights=np.arange(KH * KW * C) * O,
        phases=np.array([[0, OH * OW, 0, KH * KW * C]]),
    )


@functools.lru_cache(maxsize=256)
def adjoint_plan(H: int, W: int, w_shape: tuple[int, ...], stride: Pair, padding: Padding) -> Plan:
    """g, shaped like y, -> the gradient in x."""
    KH, KW, C, O = w_shape
    (sh, sw), ((top, _), (left, _)) = stride, padding
    OH, OW = output_size(H, KH, sh, padding[0]), output_size(W, KW, sw, padding[1])
    above, before = -(-KH // sh) - 1, -(-KW // sw) - 1  # the taps of phase 0 reach so far up and left of the first pixel of g
    Hp, Wp = above + max(OH, (H - 1 + top) // sh + 1), before + max(OW, (W - 1 + left) // sw + 1)
    h, w = np.arange(H), np.arange(W)
    h_phases, w_phases = np.unique((h + top) % sh), np.unique((w + left) % sw)
    images = _group(H * W // max(1, len(h_phases) * len(w_phases)), max(Hp * Wp * O, H * W * C))
    image = np.arange(images)
    rows, c_rows, columns, weights, phases = [], [], [], [], []
    first_row = first_column = 0
    for ph in h_phases:
        for pw in w_phases:
            hs, ws = h[(h + top) % sh == ph], w[(w + left) % sw == pw]
            i, j = np.arange(ph, KH, sh), np.arange(pw, KW, sw)
            t, u = (hs + top) // sh + above, (ws + left) // sw + before
            rows.append(_sum(image * (Hp * Wp * O), t * (Wp * O), u * O))
            c_rows.append(_sum(image * (H * W * C), hs * (W * C), ws * C))
            columns.append(_sum(-np.arange(len(i)) * (Wp * O), -np.arange(len(j)) * O, np.arange(O)))
            weights.append(_sum(i * (KW * C * O), j * (C * O), np.arange(O)))
            phases.append([first_row, len(hs) * len(ws), first_column, len(columns[-1])])
            first_row, first_column = first_row + len(rows[-1]), first_column + len(columns[-1])
    joined = [np.concatenate(tables) for tables in (rows, c_rows, columns, weights)]
    return Plan((Hp, Wp, above, before, images), images * Hp * Wp * O, joined[0], joined[1], joined[2], joined[3], np.array(phases))
