"""The cell is the dense GRU at each pixel, bits have the mean that they stand for, and more iterations begin with what fewer code."""

import numpy as np
import pytest

import minivae as mv
from minivae import nn, ops
from minivae.errors import ShapeError, UsageError
from minivae.gradcheck import frozen, gradcheck
from minivae.models import ProgressiveCodec
from minivae.objectives import Progressive
from minivae.training import Trainer, TrainingConfig

rng = np.random.default_rng(0)


def tiny(seed=0, image_shape=(16, 32, 3)):
    return ProgressiveCodec(image_shape, mv.Stream(seed), width=2, bits=3)


def cell(inputs=3, units=2, **options):
    """With biases, which are zero at first."""
    made = nn.ConvGRU(inputs, units, mv.Stream(1), **options).to(dtype=np.float64)
    for layer in (made.from_input, made.from_state):
        layer.b.data[...] = rng.normal(0, 0.5, layer.b.shape)
    return made


# --- the cell ---


def test_with_kernels_of_one_pixel_it_is_the_dense_gru_and_two_shortcuts():
    """Each pixel a sequence of two steps of ops.gru, once without shortcuts; with them the state and the output have what they add."""
    plain, steps = cell(kernel=1, shortcut=0.0), rng.normal(size=(2, 2, 3, 4, 3))  # (T, N, H, W, I)
    w, b, u, c = plain.from_input.w.data[0, 0], plain.from_input.b.data, plain.from_state.w.data[0, 0], plain.from_state.b.data
    h0 = rng.normal(size=(2, 3, 4, 2))
    bias = b[:6] + np.concatenate([c[:4], np.zeros(2)])  # of the gates both biases are one; of the candidate, U's is behind the reset gate
    rows = steps.reshape(2, 24, 3).swapaxes(0, 1)
    expected = ops.gru(rows, h0.reshape(24, 2), w[:, :6], u[:, :6], bias, c[4:6]).data
    h = h0
    for t in range(2):
        output, h = plain(steps[t], h)
        np.testing.assert_allclose(h.data.reshape(24, 2), expected[:, t], rtol=1e-12)
        np.testing.assert_array_equal(output.data, h.data)
    plain.shortcut = 0.1
    output, h = plain(steps[0], h0)
    np.testing.assert_allclose(h.data.reshape(24, 2), expected[:, 0] + 0.1 * (h0.reshape(24, 2) @ u[:, 6:] + c[6:]), rtol=1e-12)
    np.testing.assert_allclose(output.data - h.data, 0.1 * (steps[0] @ w[:, 6:] + b[6:]), atol=1e-12)


@pytest.mark.parametrize("size", [(5, 6), (4, 4), (1, 3)])
def test_states_are_of_the_size_that_the_stride_leaves_and_none_is_zero(size):
    unit = cell(hidden_kernel=3, stride=2)
    x = rng.normal(size=(2, *size, 3))
    output, state = unit(x)
    zero = np.zeros((2, -(-size[0] // 2), -(-size[1] // 2), 2))
    assert output.shape == state.shape == zero.shape
    for a, b in zip((output, state), unit(x, zero), strict=True):
        np.testing.assert_array_equal(a.data, b.data)
    assert abs(unit(x, zero + 1)[1].data - state.data).max() > 0.01
    with pytest.raises(UsageError, match="kernels are 3 and 2; need odd ones"):
        nn.ConvGRU(3, 2, mv.Stream(0), hidden_kernel=2)


def test_gradients_of_the_cell():
    unit = cell(hidden_kernel=3, stride=2)
    inputs = {"x": rng.normal(size=(2, 4, 5, 3)), "h": rng.normal(size=(2, 2, 3, 2))}
    assert gradcheck(lambda x, h: ops.concatenate(unit(x, h), axis=-1), inputs, elements=4).ok
    total = frozen(lambda m, x, _: sum(part.sum() for part in m(x, inputs["h"])), unit, inputs["x"], mv.Stream(0))
    assert gradcheck(total, elements=4).ok


def test_depth_to_space_by_a_loop():
    x = rng.normal(size=(2, 3, 4, 18))
    expected = np.empty((2, 9, 12, 2))
    for n, i, j, k, l, c in np.ndindex(2, 3, 4, 3, 3, 2):
        expected[n, 3 * i + k, 3 * j + l, c] = x[n, i, j, (3 * k + l) * 2 + c]
    np.testing.assert_array_equal(ops.depth_to_space(x, 3).data, expected)
    assert gradcheck(lambda x: ops.square(ops.depth_to_space(x, 3)), [x]).ok
    with pytest.raises(ShapeError, match=r"has 18 channels; need a multiple of 2\^2 = 4"):
        ops.depth_to_space(x, 2)


# --- bits ---


def test_bits_have_the_mean_that_they_stand_for():
    """The mean of n draws of variance 1 - t^2 is within 4.5 standard deviations, 1 of 150,000 is not."""
    model, n = tiny(), 40_000
    t = np.array([-1, -0.9, -0.2, 0, 0.5, 1], np.float32)
    b = model.binarize(mv.Tensor(np.broadcast_to(t, (n, 6)).copy()), mv.Stream(2)).data
    assert abs(abs(b) - 1).max() < 1e-6
    assert (abs(b.mean(axis=0, dtype=np.float64) - t) <= 4.5 * ((1 - t.astype(np.float64) ** 2) / n) ** 0.5 + 1e-6).all()
    with pytest.raises(UsageError, match="pass a Stream"):
        model.binarize(mv.Tensor(t))


def test_an_evaluation_takes_the_sign_and_the_gradient_goes_straight_through():
    model, t = tiny(), mv.Tensor(np.array([-0.7, -0.1, 0, 0.3], np.float32))
    weights = np.array([1, -2, 3, 4], np.float32)
    for training in (True, False):
        b = model.train(training).binarize(t, mv.Stream(0))
        np.testing.assert_array_equal(mv.gradients((b * weights).sum(), [t])[0], weights)
    np.testing.assert_array_equal(b.data, [-1, -1, 1, 1])


# --- the codec ---


class Smooth(ProgressiveCodec):
    """What a bit is worth in the place of the bit: the step is then a smooth function, and its gradient is one."""

    def binarize(self, t, rng=None):
        return t


def test_gradients_of_two_iterations():
    """Along random directions of all weights, by a complex step: Im L(w + i e v) / e = <gradient, v> to the last digits."""
    model = Smooth((16, 16, 2), mv.Stream(3), width=2, bits=3).to(dtype=np.float64)
    x, parameters = rng.random((2, 16, 16, 2)), model.parameters()

    def loss():
        first, second = model.iterate(x, 2)
        return ops.square(first - x).sum() + ops.square(second - x).sum()

    exact = mv.gradients(loss(), parameters)
    assert all(g.any() for g in exact)
    weights = [p.data for p in parameters]
    for _ in range(3):
        directions = [rng.normal(size=w.shape) for w in weights]
        for p, w, v in zip(parameters, weights, directions, strict=True):
            p.data = w + 1e-30j * v
        slope = loss().data.imag / 1e-30
        for p, w in zip(parameters, weights, strict=True):
            p.data = w
        np.testing.assert_allclose(sum((g * v).sum() for g, v in zip(exact, directions, strict=True)), slope, rtol=1e-9)


def test_more_iterations_begin_with_what_fewer_code():
    model, x = tiny().train(False), rng.random((2, 16, 32, 3)).astype(np.float32)
    three, one = model.iterate(x, 3), model.iterate(x, 1)
    assert [y.shape for y in three] == [x.shape] * 3
    np.testing.assert_array_equal(three[0].data, one[0].data)
    # by hand: the second iteration codes what the first one left, with the states that it left; each at the scale of all that is missing
    missing = x - np.float32(0.5)
    scale = 4 * (missing**2).mean() ** 0.5
    t, down = model.encode_step(missing / scale, (None,) * 3)
    change, up = model.decode_step(np.where(t.data >= 0, np.float32(1), np.float32(-1)), (None,) * 4)
    first = 0.5 + scale * change.data
    np.testing.assert_allclose(first, one[0].data, atol=1e-5)
    missing = x - one[0].data
    scale = 4 * (missing**2).mean() ** 0.5
    t, _ = model.encode_step(missing / scale, down)
    change, _ = model.decode_step(np.where(t.data >= 0, np.float32(1), np.float32(-1)), up)
    np.testing.assert_allclose(first + scale * change.data, three[1].data, atol=1e-4)


def test_what_is_nothing_has_a_scale():
    """A gray picture: nothing is missing, and neither 0 / 0 nor what the encoder makes of noise is added."""
    for y in tiny().train(False).iterate(np.full((1, 16, 16, 3), 0.5, np.float32), 2):
        assert abs(y.data - 0.5).max() < 0.05


def test_shapes_and_what_is_refused():
    with pytest.raises(ShapeError, match=r"\(2, 30, 48, 3\); need \(N, H, W, 3\), sides multiples of 16"):
        tiny().iterate(np.zeros((2, 30, 48, 3), np.float32), 1, mv.Stream(0))
    with pytest.raises(UsageError, match="width is 3, bits 4"):
        ProgressiveCodec((32, 32, 3), mv.Stream(0), width=3, bits=4)
    with pytest.raises(ShapeError, match=r"\(32, 32\); need \(height"):
        ProgressiveCodec((32, 32), mv.Stream(0))
    with pytest.raises(UsageError, match="needs a model with iterate"):
        Trainer(mv.VAE((4, 4, 1), mv.Stream(0), latent=2, hidden=[3]), objective=Progressive())


def test_the_widths_of_the_paper():
    """Full width, from the published table: 64; 256, 512, 512; 32 bits; 512; 512, 512, 256, 128; a quarter of a unit's channels go on."""
    model = ProgressiveCodec((32, 32, 3), mv.Stream(0), width=64)
    shapes = [unit.from_input.w.shape for unit in (*model.down, *model.up)]
    assert [(i, o // 4) for _, _, i, o in shapes] == [(64, 256), (256, 512), (512, 512), (512, 512), (128, 512), (128, 256), (64, 128)]
    assert [layer.w.shape[2:] for layer in (model.first, model.to_bits, model.from_bits, model.last)] == [
        (3, 64),
        (512, 32),
        (32, 512),
        (32, 3),
    ]


def test_the_loss_is_its_definition():
    model, x = tiny().train(False), rng.random((3, 16, 32, 3)).astype(np.float32)
    errors = np.stack([255 * abs(y.data - x).mean(axis=(1, 2, 3)) for y in model.iterate(x, 3)])
    losses, reports = Progressive(3).losses({"model": model}, mv.data.Batch(x), mv.Stream(0), None)
    np.testing.assert_allclose(losses["model"].data, errors.mean(), rtol=1e-5)
    np.testing.assert_allclose(reports["first"].data, errors[0], rtol=1e-5)
    np.testing.assert_allclose(reports["last"].data, errors[2], rtol=1e-5)
    with pytest.raises(UsageError, match="iterations is 0"):
        Progressive(0)


COLOURS = np.zeros((64, 16, 16, 3), np.uint8) + rng.integers(0, 256, (64, 1, 1, 3)).astype(np.uint8)


def test_it_learns_and_more_iterations_help():
    model = ProgressiveCodec((16, 16, 3), mv.Stream(0), width=6, bits=6)
    trainer = Trainer(model, TrainingConfig(epochs=20, batch_size=8, lr=4e-3), Progressive(2))
    before = trainer.evaluate(COLOURS)
    for _ in range(20):
        trainer.epoch(COLOURS)
    after = trainer.evaluate(COLOURS)
    assert after["last"] < before["last"] / 2, (before, after)
    assert after["last"] < after["first"], after  # they are equal if the second changes nothing


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_a_recorded_step_is_the_written_one(backend):
    states = []
    with mv.use_backend(backend):
        for replayed in (True, False):
            trainer = Trainer(tiny(image_shape=(16, 16, 3)), TrainingConfig(epochs=2, batch_size=4, clip=100.0), Progressive(2))
            if not replayed:
                trainer.replay.refused = "the test asks for it"
                trainer.replay.look = lambda: None
            reports = [trainer.epoch(COLOURS[:20]) for _ in range(2)]
            states.append((reports, trainer.state()[0]))
            if replayed:
                assert trainer.why_eager == ""
                assert sum(p.used for p in trainer.replay.programs.values()) > 2
    assert states[0][0] == states[1][0]
    for name, a in states[0][1].items():
        np.testing.assert_array_equal(a, states[1][1][name], err_msg=name)


def test_it_is_kept(tmp_path):
    model = tiny().train(False)
    mv.save(model, tmp_path / "codec.npz")
    again = mv.load(tmp_path / "codec.npz").train(False)
    assert again.config() == model.config()
    x = rng.random((1, 16, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(again.iterate(x, 2)[1].data, model.iterate(x, 2)[1].data)
