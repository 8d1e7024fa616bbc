"""The checker cries no wolf, says what it saw, and leaves no trace."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivae import VAE, Stream, Tensor, elbo, gradients, nn, ops, stop_gradient
from minivae.errors import ShapeError, UsageError
from minivae.gradcheck import FrozenStream, assert_gradients, frozen, gradcheck, strategies
from minivae.models import LIKELIHOODS

from .planted import noise, planted


def test_the_float32_noise_floor_is_the_distance_of_the_two_gradients():
    x, w = noise(7, 5).astype(np.float32), noise(5, 4).astype(np.float32)
    report = gradcheck(lambda x, w: ops.tanh(x @ w).sum(), [x, w])
    for i, row in enumerate(report.rows):
        single, double = (
            gradients(ops.tanh((t := [Tensor(x.astype(k)), Tensor(w.astype(k))])[0] @ t[1]).sum(), t)[i] for k in ("f4", "f8")
        )
        assert row.float32 == pytest.approx(np.linalg.norm(single - double) / np.linalg.norm(double), rel=1e-6)
        assert 0 < row.float32 < 1e-6
    assert all(math.isnan(row.float32) for row in gradcheck(ops.tanh, [noise(3)]).rows)


KINKS = {  # f, inputs: right gradients at a kink; what is to be said of it
    "relu at 0": (ops.relu, [np.array([-1.0, 0.0, 2.0])], True),
    "relu beside 0": (ops.relu, [np.array([-1.0, 1e-8, 2.0])], None),
    "relu near 0": (ops.relu, [np.array([-1.0, 1e-3, -1e-4])], False),
    "absolute at 0": (ops.absolute, [np.array([0.0, 1.0])], True),
    "maximum at a tie": (ops.maximum, [np.array([1.0, 2.0, 3.0]), np.array([1.0, 5.0, 0.0])], True),
    "max of equal numbers": (ops.max, [np.array([2.0, 2.0, 1.0])], True),
    "both slopes of relu": (lambda x: ops.relu(x) + 2 * ops.relu(-x), [np.array([0.0, 0.3])], True),
    "far softplus": (ops.softplus, [np.array([-50.0, 50.0, 0.0, -700.0])], False),
    "a complex logarithm that rounds": (lambda x: ops.softplus(x) * ops.tanh(x * 0.1), [np.array([-29.0])], False),
    "far sigmoid": (ops.sigmoid, [np.array([-50.0, 50.0, 30.0])], False),
    "a constant function": (lambda x: 0 * x + 1.0, [noise(3)], False),
    "large values": (lambda x: ops.square(x).sum() + 1e8, [noise(3)], False),
    "large inputs": (lambda x: ops.log(x), [np.array([1e9, 1e-3, 1.0])], False),
    "inner cancellation": (lambda x: (ops.exp(x) + 1e8) - 1e8, [noise(3)], False),
    "narrow": (lambda x: ops.tanh(x * 3e3), [np.array([1e-4, -2e-4, 0.0])], False),
    "no dependence": (lambda x, y: 0.0 * x + y, [noise(3), noise(3)], False),
    "softmax": (ops.softmax, [noise(4, 6)], False),
    "an empty array": (lambda x, y: x.sum() + y.sum(), [np.zeros((0, 3)), noise(2)], False),
    "a number": (ops.exp, [0.3], False),
}


@pytest.mark.parametrize("case", KINKS)
def test_right_gradients_in_awkward_places_are_right(case):
    f, inputs, kink = KINKS[case]
    report = gradcheck(f, inputs)
    assert report.ok, str(report)
    if kink is not None:
        assert bool(report.kinks) is kink, str(report)
    if kink:
        assert "a kink at" in str(report)
        assert "a kink" in report.verdict()


def test_both_slopes_of_a_kink_are_told():
    (row,) = gradcheck(lambda x: (ops.relu(x) - 0.25 * ops.relu(-x)).sum(), [np.array([0.0])]).rows
    assert row.verdict == "kink"
    assert "0.25 and 1" in row.cause


@given(st.data())
def test_no_false_alarm_over_the_users_strategies(data):
    a, b = data.draw(strategies.broadcastable(2, away_from=(0,)))
    assert all((abs(c) >= strategies.MARGIN).all() for c in (a, b))
    assert_gradients(lambda a, b: ops.relu(a) * b - ops.absolute(b) / a, a, b, elements=3)
    x = data.draw(strategies.arrays(min_dims=1, low=-60, high=60))
    assert_gradients(lambda x: ops.softplus(x) * ops.tanh(x * 0.1), x, elements=3)


def test_the_users_strategies_cover_their_interval():
    from hypothesis import find

    for p in (-2.9, -0.06, 0.06, 2.9):
        found = find(strategies.values((1,), away_from=(0,)), lambda x, p=p: x[0] / p >= 1)
        assert abs(found[0]) >= 0.05
    with pytest.raises(UsageError, match="no number in"):
        strategies.values((1,), -0.01, 0.01, away_from=(0,))


def small_vae(seed):
    """A VAE whose architecture, likelihood and head are functions of the seed; its loss with the noise frozen."""
    likelihood = tuple(LIKELIHOODS)[seed % len(LIKELIHOODS)]
    arch, head, activation = (("dense", "conv")[seed // 4 % 2], ("logvar", "log_sigma")[seed // 8 % 2], ("relu", "tanh")[seed // 16 % 2])
    channels = (2,) if arch == "conv" else None
    size = (4, 5, 1)
    model = VAE(
        size, Stream(seed), latent=2, arch=arch, hidden=(6,), channels=channels, activation=activation, likelihood=likelihood, head=head
    )
    return frozen(elbo, model, np.rint(255 * Stream(seed).split("x").uniform((3, *size))) / np.float32(255), Stream(seed).split("noise"))


@pytest.mark.parametrize("seeds", [range(16), pytest.param(range(16, 200), marks=pytest.mark.slow)])
def test_no_false_alarm_for_a_vae(seeds):
    for seed in seeds:
        report = gradcheck(small_vae(seed), elements=1, directions=1, seed=seed)
        assert report.ok, f"seed {seed}\n{report}"
        assert all(0 <= row.float32 < 1e-3 for row in report.rows)


def test_frozen_noise_is_the_same_at_every_precision_and_leaves_no_trace():
    rng, loss = Stream(5), small_vae(3)
    loss.rng = rng
    before = loss.model.state()
    first = float(loss())
    assert rng.counter == 0
    gradcheck(loss, elements=1)
    assert rng.counter == 0
    assert float(loss()) == first
    assert all(np.array_equal(before[name], a) and a.dtype == np.float32 for name, a in loss.model.state().items())
    loss.model.to(dtype=np.float64)
    assert float(loss()) == pytest.approx(first, rel=1e-6)  # float64 noise would be another draw


def test_a_frozen_stream_draws_the_same_numbers_at_every_precision():
    single, double, plain = (np.zeros(2, kind) for kind in (np.float32, np.float64, np.complex128))
    for draw in ("uniform", "normal"):
        a, b, c = (getattr(FrozenStream(Stream(1)), draw)((5, 3), like=like) for like in (single, double, plain))
        assert (a.dtype, b.dtype, c.dtype) == (np.float32, np.float64, np.float64)
        assert np.array_equal(a, b)
        assert np.array_equal(a, c)
        assert np.array_equal(a, getattr(Stream(1), draw)((5, 3), like=single))
        child = FrozenStream(Stream(1)).split("child")
        assert np.array_equal(getattr(child, draw)(4, like=double), getattr(Stream(1).split("child"), draw)(4, like=single))


def test_modules_with_moments_and_noise_of_their_own():
    rng = Stream(0)
    model = nn.Sequential(nn.Dense(4, 6, rng), nn.BatchNorm(6), nn.Activation("silu"), nn.Dropout(0.3, rng.split("mask")), nn.LayerNorm(6))
    before = model.state()
    report = gradcheck(model, [noise(8, 4).astype(np.float32)], elements=4)
    assert report.ok, str(report)
    assert {row.name for row in report.rows} == {"input 0", *model.named_parameters()}
    assert all(row.float32 < 1e-3 for row in report.rows)  # another mask in float64 would be another function
    assert all(np.array_equal(before[name], a) for name, a in model.state().items())
    assert model.named_streams()["layers.3.rng"].counter == 0


def test_an_element_that_matters_is_among_those_that_are_checked():
    """Of 10,000 slopes one is not 0."""
    x = np.zeros(10_000)
    x[1234] = 0.7
    (row,) = gradcheck(lambda x: ops.square(x).sum(), [x], elements=2).rows
    assert (row.index, row.checked, row.verdict) == ((1234,), 2, "ok")
    assert row.analytic == pytest.approx(1.4)


def test_a_weight_with_two_names_is_one_variable():
    layer = nn.Dense(3, 3, Stream(0))
    model = nn.Sequential(layer, nn.Activation("tanh"), layer)
    report = gradcheck(model, {"x": noise(2, 3)})
    assert report.ok, str(report)
    assert [row.name for row in report.rows] == ["x", "layers.0.w", "layers.0.b"]


def test_integers_and_masks_are_passed_on():
    report = gradcheck(lambda mask, x, labels: ops.where(mask, x, 2 * x)[labels], [np.array([True, False]), noise(2), np.array([1, 1, 0])])
    assert report.ok
    assert [row.name for row in report.rows] == ["input 1"]


def test_why_there_is_no_complex_step_is_said():
    def discards(x):
        return np.asarray(np.tanh(x), np.float64), (x.real,)

    report = gradcheck(planted(lambda g, x: (g * (1 - np.tanh(x) ** 2),), discards), [noise(3)])
    assert report.ok
    assert math.isnan(report.rows[0].complex_step)
    assert "no complex step: f does not take complex numbers (ComplexWarning" in str(report)
    assert not gradcheck(planted(lambda g, x: (1.01 * g * (1 - np.tanh(x) ** 2),), discards), [noise(3)]).ok


def test_bad_questions_get_one_sentence():
    stream = Stream(0)
    with pytest.raises(UsageError, match=r"two values at one point, .* freeze it with frozen"):
        gradcheck(lambda x: x * stream.normal(3), [noise(3)])
    with pytest.raises(UsageError, match=r"not finite at the inputs \(1 of 2 outputs\)"):
        gradcheck(ops.log, [np.array([0.0, 1.0])])
    with pytest.raises(UsageError, match="nothing to differentiate"):
        gradcheck(ops.exp, [np.array([1, 2])])
    with pytest.raises(UsageError, match="nothing to differentiate"):
        gradcheck(ops.exp, [stop_gradient(noise(2))])
    with pytest.raises(UsageError, match="input 0 is complex128"):
        gradcheck(ops.exp, [Tensor(np.array([1j]))])
    with pytest.raises(ShapeError, match="returned a tuple"):
        gradcheck(lambda x: ops.split(x, 2), [noise(4)])
    with pytest.raises(UsageError, match="elements is 0"):
        gradcheck(ops.exp, [noise(4)], elements=0)


HEAD = ["variable", "shape", "n", "worst", "at", "analytic", "central", "complex", "error", "dual", "f32"]


def test_the_report_is_a_table_of_100_columns():
    text = str(gradcheck(small_vae(1), elements=2))
    assert max(map(len, text.splitlines())) <= 100
    assert "noise frozen, in float64 copies" in text.splitlines()[0]
    assert text.splitlines()[3].split() == HEAD


def test_the_v_curve_is_a_v_where_right_and_a_plateau_where_wrong():
    from minivae.gradcheck import v_curve

    right = gradcheck(lambda x: ops.exp(x).sum(), [np.array([0.7])])
    wrong = gradcheck(planted(lambda g, y: (1.1 * g * y,), lambda x: (np.exp(x), (np.exp(x),))), [np.array([0.7])])
    for report, is_v in ((right, True), (wrong, False)):
        (axes,) = report.plot_v_curve().axes
        h, error = axes.lines[0].get_data()
        foot = report.rows[0].chosen
        assert 1e-7 < h[foot] < 1e-3
        if is_v:  # the slope of the left branch is h^2, exactly e^x h^2 / 6 / e^x
            assert error[1] / error[2] == pytest.approx(64, rel=0.01)
            assert error[1] == pytest.approx(h[1] ** 2 / 6, rel=0.01)
            assert error[foot] < 1e-9 < error[-1]
        else:
            assert error[2:] == pytest.approx(0.1 / 1.1, rel=1e-3)
    assert v_curve(right, axes) is axes.figure
