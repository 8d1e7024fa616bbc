"""What a Tensor takes, keeps, tells, and how it meets arrays and numbers in operators."""

import numpy as np
import pytest

import minivae as mv
from minivae import ShapeError, Tensor, gradients, ops, stop_gradient


@pytest.mark.parametrize(
    "data", [3, [1, 2], [True, False], np.arange(3), np.array(True), np.int64(3), np.bool_(True), 1.5, [1.5], (2,), [[]]]
)
def test_numbers_become_float32(data):
    x = Tensor(data)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x.data, np.asarray(data, np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_floats_and_complex_are_kept_without_a_copy(dtype):
    data = np.ones(3, dtype)
    assert Tensor(data).data is data
    assert Tensor(data[0]).dtype == dtype
    assert type(Tensor(data[0]).data) is np.ndarray
    assert Tensor([1 + 2j]).dtype == np.complex128


@pytest.mark.parametrize(
    "data", [np.array([None]), np.array(["a"]), np.array("2020-01-01", np.datetime64), ["a"], None, [[1], [1, 2]], "1.5"]
)
def test_what_holds_no_numbers_is_refused(data):
    with pytest.raises(ShapeError, match="need float32, float64 or complex"):
        Tensor(data)


def test_a_tensor_of_a_tensor_is_refused():
    with pytest.raises(ShapeError, match="is a Tensor already"):
        Tensor(Tensor(1.0))


def test_a_tensor_has_no_truth():
    with pytest.raises(ShapeError, match="ambiguous"):
        bool(Tensor(1.0))


def test_what_a_tensor_tells():
    x = Tensor(np.arange(6.0).reshape(2, 3))
    assert (x.shape, x.ndim, x.size, len(x), x.dtype) == ((2, 3), 2, 6, 2, np.float64)
    assert x.numpy() is x.data
    assert float(x[1, 2]) == x[1, 2].item() == 5
    assert "variable" in repr(x)
    assert "multiply" in repr(x * 2.0)
    assert "constant" in repr(stop_gradient(x))
    assert repr(ops.add) == "Op(add)"


A, B = np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[4.0, 7.0], [2.0, 8.0]])
OPERATORS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "@": lambda a, b: a @ b,
}


@pytest.mark.parametrize("sign", OPERATORS)
def test_operators_with_arrays_and_numbers_on_either_side(sign):
    operator = OPERATORS[sign]
    for left, right in ((Tensor(A), Tensor(B)), (Tensor(A), B), (A, Tensor(B))):
        y = operator(left, right)
        assert type(y) is Tensor
        np.testing.assert_array_equal(y.data, operator(A, B))
        params = [t for t in (left, right) if type(t) is Tensor]
        full = dict(zip("ab", gradients(operator(a := Tensor(A), b := Tensor(B)).sum(), [a, b]), strict=True))
        for name, t in zip("ab", (left, right), strict=True):
            if any(t is p for p in params):
                np.testing.assert_array_equal(gradients(y.sum(), [t])[0], full[name])
    if sign != "@":
        for number in (3, 3.0, np.float64(3), np.array(3.0)):
            assert type(operator(number, Tensor(B))) is Tensor
            np.testing.assert_array_equal(operator(number, Tensor(B)).data, operator(3.0, B))
            np.testing.assert_array_equal(operator(Tensor(B), number).data, operator(B, 3.0))


def test_a_numpy_function_of_a_tensor_is_refused():
    """It would be an array of Tensors, without a gradient."""
    for call in (lambda: np.add(A, Tensor(B)), lambda: np.exp(Tensor(A)), lambda: np.multiply(np.float64(2), Tensor(B))):
        with pytest.raises(TypeError, match="ufunc"):
            call()


def test_numbers_do_not_widen_float32():
    x = Tensor(np.ones(2, np.float32))
    for y in (x + 1, 2.0 - x, x * 0.5, 1 / x, x**2, x**0.5, -x, x.mean(), x.sum() / 3, x[0] * 2.0, x.mean() * 2.0 + 1):
        assert y.dtype == np.float32


def test_methods():
    x = Tensor(A)
    for y, expected in (
        (-x, -A),
        (x**2, A * A),
        (x[0], A[0]),
        (x[:, None, 1], A[:, None, 1]),
        (x.sum(), 11),
        (x.sum(axis=0), [4, 7]),
        (x.mean(axis=1, keepdims=True), [[1.5], [4]]),
        (x.max(), 5),
        (x.min(axis=0), [1, 2]),
        (x.reshape(4), A.ravel()),
        (x.reshape(4, 1), A.reshape(4, 1)),
        (x.reshape((1, -1)), A.reshape(1, 4)),
        (x.transpose(), A.T),
        (x.transpose(1, 0), A.T),
        (x.T, A.T),
    ):
        np.testing.assert_array_equal(y.data, expected)


def test_the_usual_functions_are_methods():
    x = Tensor(A / 10)
    for name in ("exp", "expm1", "log", "log1p", "sqrt", "square", "abs", "tanh", "sigmoid", "relu", "softplus", "softmax", "logsumexp"):
        op = getattr(ops, {"abs": "absolute"}.get(name, name))
        y = getattr(x, name)()
        np.testing.assert_array_equal(y.data, op(x).data)
        assert y.op is op
        assert getattr(Tensor, name).__doc__.startswith(f"ops.{op.name} ")
    np.testing.assert_array_equal(abs(-x).data, x.data)
    np.testing.assert_array_equal(x.maximum(0.25).data, np.maximum(x.data, 0.25))


def test_comparisons_are_arrays_and_a_tensor_is_itself():
    x, y = Tensor(A), Tensor(B)
    for sign in (np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal):
        operator = {"less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=", "equal": "==", "not_equal": "!="}[sign.__name__]
        for right in (y, B, 3.0):
            found = eval(f"x {operator} right")
            assert type(found) is np.ndarray
            assert found.dtype == bool
            np.testing.assert_array_equal(found, sign(A, B if right is y else right))
    twin = Tensor(A)
    assert len({x, twin, x}) == 2
    assert {x: 1, twin: 2}[twin] == 2
    assert (x == twin).all()


def test_a_number_is_printed_as_asked_for_and_an_array_is_not():
    assert f"{Tensor([2.5]).sum():.2f}" == "2.50"
    assert f"{Tensor(2.5)}" == str(Tensor(2.5))
    with pytest.raises(ShapeError, match=r"a tensor of shape \(2, 2\) has no one number to print as '.2f'"):
        f"{Tensor(A):.2f}"


def test_an_array_of_a_tensor_does_not_lose_a_gradient_silently():
    np.testing.assert_array_equal(np.asarray(stop_gradient(A)), A)
    with pytest.raises(mv.UsageError, match=r"would lose its gradient; use ops or a method of it, or pass \.numpy\(\)"):
        np.concatenate([Tensor(A), Tensor(B)])
    assert [row.data.tolist() for row in Tensor(A)] == A.tolist()
