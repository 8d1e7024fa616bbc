"""What ops are asked for by mistake: a sentence with the numbers, never NumPy's own words alone, and never a silent NaN."""

import numpy as np
import pytest

from minivae import ShapeError, Tensor, gradients, ops
from minivae.gradcheck import gradcheck

EMPTY, A = np.zeros((0, 3)), np.ones((2, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.max(EMPTY), r"max: .*given float64 \(0, 3\)"),
        (lambda: ops.min(Tensor(EMPTY), axis=0), r"min: .*given float64 \(0, 3\), axis=0"),
        (lambda: ops.logsumexp(EMPTY, axis=0), r"logsumexp: .*given float64 \(0, 3\)"),
        (lambda: ops.mean(EMPTY), r"mean: x is \(0, 3\), and no numbers along axis None have no mean"),
        (lambda: ops.mean(Tensor(A[:, :0]), axis=1), r"mean: x is \(2, 0\), and no numbers along axis 1"),
        (lambda: ops.sum(A, axis=2), r"sum: .*axis 2 is out of bounds.*given float64 \(2, 3\), axis=2"),
        (lambda: ops.add(A, np.ones(2)), r"add: .*\(2,3\) \(2,\).*given float64 \(2, 3\), float64 \(2,\)"),
        (lambda: Tensor(A) * np.ones((3, 3)), r"multiply: .*given float64 \(2, 3\), float64 \(3, 3\)"),
        (lambda: ops.reshape(A, (4, 2)), r"reshape: .*given float64 \(2, 3\), \(4, 2\)"),
        (lambda: ops.transpose(A, (0, 0)), r"transpose: .*given float64 \(2, 3\)"),
        (lambda: ops.concatenate([A, np.ones((2, 2))], axis=0), r"concatenate: .*given float64 \(2, 3\), float64 \(2, 2\)"),
        (lambda: ops.broadcast_to(A, (2, 4)), r"broadcast_to: .*given float64 \(2, 3\), \(2, 4\)"),
        (lambda: ops.softmax(A, axis=5), "softmax: .*axis"),
        (lambda: ops.power(np.array([1.0, -2.0]), np.ones(2)), "power: x goes down to -2 and the exponent is an array; need x > 0"),
        (lambda: ops.power(-2.0, Tensor(A)), "power: x goes down to -2"),
        (lambda: ops.group_norm(A, np.ones(3), np.ones(3), groups=2), r"group_norm: x is \(2, 3\), .* 2 groups; need .*divide C"),
        (lambda: ops.group_norm(A, np.ones(2), np.ones(3)), r"group_norm: x is \(2, 3\), scale \(2,\)"),
    ],
)
def test_a_mistake_is_one_sentence(call, message):
    with pytest.raises(ShapeError, match=message):
        call()


def test_powers_with_an_array_for_an_exponent():
    rng = np.random.default_rng(0)
    x, n = rng.uniform(0.5, 2, (4, 3)), rng.normal(size=3)
    np.testing.assert_allclose(ops.power(2.0, n).data, 2.0**n)
    np.testing.assert_allclose((2.0 ** Tensor(n)).data, 2.0**n)
    np.testing.assert_allclose(ops.power(x, Tensor(n)).data, x**n)
    for f, inputs in ((lambda n: ops.power(2.0, n), [n]), (ops.power, [x, n]), (lambda x: ops.power(x, n), [x]), (lambda n: 3**n, [n])):
        report = gradcheck(f, inputs)
        assert report.ok, report
    exponent = Tensor(np.zeros(3))
    (g,) = gradients(ops.power(2.0, exponent).sum(), [exponent])
    np.testing.assert_allclose(g, np.log(2.0))
