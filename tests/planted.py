"""What tests of the checker plant: ops with wrong gradients, and noise to try them on."""

import numpy as np

from minivae import Op


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def planted(vjp, forward, numba=None):
    """An op of no library: the table of all ops knows nothing of it."""
    op = Op("planted", numpy=(forward, vjp), numba=numba)
    del Op.registry["planted"]
    return op
