"""Arrays of a recorded step share memory exactly when none is needed after the other is written."""

import gc

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import minivae as mv
from minivae.objectives import elbo
from minivae.replay import captured
from minivae.replay.memory import ALIGNMENT, Ledger, layout

BUFFERS = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 20), st.integers(0, 20)), max_size=25)


@given(BUFFERS)
def test_buffers_in_use_at_one_time_do_not_overlap(buffers):
    sizes, first, last = ([b[0] for b in buffers], [min(b[1:]) for b in buffers], [max(b[1:]) for b in buffers])
    offsets, end = layout(sizes, first, last)
    for i in range(len(sizes)):
        assert offsets[i] % ALIGNMENT == 0
        assert offsets[i] + sizes[i] <= end
        for j in range(i):
            together = first[i] <= last[j] and first[j] <= last[i] and sizes[i] and sizes[j]
            assert not together or offsets[i] + sizes[i] <= offsets[j] or offsets[j] + sizes[j] <= offsets[i]


@given(BUFFERS)
def test_what_is_never_in_use_together_takes_the_room_of_the_largest(buffers):
    sizes = [b[0] for b in buffers]
    assert layout(sizes, list(range(len(sizes))), list(range(len(sizes))))[1] == max(sizes, default=0)


def test_places_describe_views_and_a_result_keeps_its_memory():
    ledger = Ledger()
    a = np.arange(12.0).reshape(3, 4)
    made = [ledger.place(a.T[1:, ::2], 0), ledger.place(a, 1)]
    b = np.ones(4)
    made.append(ledger.place(b, 2))
    result = ledger.place(np.zeros((2, 2), np.float32), 1)
    del a, b
    view, whole, other, kept = map(ledger.allocate([result]), [*made, result])
    whole[...] = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(view, np.arange(12.0).reshape(3, 4).T[1:, ::2])
    assert np.may_share_memory(whole, other)
    assert not np.may_share_memory(kept, whole)
    assert not np.may_share_memory(kept, other)
    assert kept.dtype == np.float32


def test_what_no_call_writes_is_not_a_number():
    ledger = Ledger()
    place = ledger.place(np.ones((3, 2)), 0)
    assert np.isnan(ledger.allocate([])(place)).all()


def test_what_somebody_holds_is_not_moved():
    ledger, held, outside = Ledger(), np.ones(5), np.ones(6)
    ledger.keep([outside])
    assert ledger.place(outside[1:], 0) is not None
    place = ledger.place(held, 0)
    assert ledger.allocate([])(place).ctypes.data == held.ctypes.data


def test_a_recording_needs_less_memory_than_its_arrays():
    model = mv.VAE((28, 28, 1), mv.Stream(0), hidden=(400, 400), latent=20)
    noise, x = mv.Stream(1), np.zeros((128, 28, 28, 1), np.float32)
    step = captured(lambda x: elbo(model, x, noise), model.parameters())
    step(x)
    (recording,) = step.replay.programs.values()
    sizes = sum(recording.ledger.sizes[n] for n in range(len(recording.ledger.sizes)) if n not in recording.ledger.kept)
    gc.collect()
    step(x)
    assert step.why_eager == ""
    blocks = {id(a.base): a.base.nbytes for a in recording.results[1]}
    assert len(blocks) == 1
    assert sum(blocks.values()) < 0.75 * sizes
