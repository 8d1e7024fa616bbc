"""Hypothesis strategies that draw inputs for the gradient checks of one's own ops.  Hypothesis is imported when one is made.

from hypothesis import conditioned
from minivae.gradcheck import assert_gradients, strategies

@given(strategies.broadcastable(2, away_from=(0,)))
def test_my_op(arrays):
    assert_gradients(my_op, *arrays)
"""

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UsageError

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

MARGIN = 0.05  # distance from a kink: no step of a sweep but the largest two reaches across


def values(
    shape: tuple[int, ...], low: float = -3.0, high: float = 3.0, away_from: tuple[float, ...] = (), margin: float = MARGIN
) -> "SearchStrategy[np.ndarray]":
    """float64 arrays of one shape with elements in [low, high], each at least `margin` away from the points `away_from` (kinks, poles)."""
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as hnp

    ends = sorted({low, high} | {p for p in away_from if low < p < high})
    gaps = [
        (a + margin * (a in away_from), b - margin * (b in away_from))
        for a, b in pairwise(ends)
        if a + margin * (a in away_from) <= b - margin * (b in away_from)
    ]
    if not gaps:
        raise UsageError(f"values: no number in [{low}, {high}] is {margin} away from {away_from}; widen the interval")
    elements = st.one_of([st.floats(a, b, allow_nan=False, width=64) for a, b in gaps])
    return hnp.arrays(np.float64, shape, elements=elements)


def arrays(
    min_dims: int = 0,
    max_dims: int = 3,
    min_side: int = 1,
    max_side: int = 4,
    low: float = -3.0,
    high: float = 3.0,
    away_from: tuple[float, ...] = (),
    margin: float = MARGIN,
) -> "SearchStrategy[np.ndarray]":
    """float64 arrays of any shape within the limits, with elements as in `values`."""
    from hypothesis.extra import numpy as hnp

    shapes = hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side)
    return shapes.flatmap(lambda shape: values(shape, low, high, away_from, margin))


def broadcastable(
    count: int,
    max_dims: int = 3,
    max_side: int = 4,
    low: float = -3.0,
    high: float = 3.0,
    away_from: tuple[float, ...] = (),
    margin: float = MARGIN,
) -> "SearchStrategy[tuple[np.ndarray, ...]]":
    """`count` float64 arrays whose shapes broadcast against each other, with elements as in `values`."""
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as hnp

    shapes = hnp.mutually_broadcastable_shapes(num_shapes=count, max_dims=max_dims, max_side=max_side)
    return shapes.flatmap(lambda drawn: st.tuples(*[values(shape, low, high, away_from, margin) for shape in drawn.input_shapes]))
