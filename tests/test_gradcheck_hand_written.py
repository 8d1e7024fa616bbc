"""Gradients that somebody wrote by hand, or that another framework computed: the same table, the same verdicts."""

import math

import numpy as np
import pytest

from minivae import ShapeError
from minivae.cli import main
from minivae.gradcheck import gradcheck

X, W = np.linspace(-1, 1.5, 12).reshape(4, 3), np.linspace(0.5, 2, 3)


def f(x, w):
    return float(np.sum(np.tanh(x) @ w)) if x.dtype.kind == "f" and w.dtype.kind == "f" else np.sum(np.tanh(x) @ w)


def df(x, w):
    return (1 - np.tanh(x) ** 2) * w, np.tanh(x).sum(axis=0)


def test_a_right_gradient_is_ok_and_a_wrong_one_is_named():
    report = gradcheck(f, {"x": X, "w": W}, gradient=df)
    assert report.ok, report
    assert [row.name for row in report.rows] == ["x", "w"]
    assert max(row.error for row in report.rows) < 1e-12  # by the complex step
    half = gradcheck(f, [X, W], gradient=lambda x, w: (df(x, w)[0] / 2, df(x, w)[1]))
    assert [row.verdict for row in half.rows] == ["WRONG", "ok"]
    assert "0.5" in half.rows[0].cause


def test_a_function_that_takes_no_complex_numbers_is_judged_by_differences():
    def norm(x):
        return math.hypot(*x)

    report = gradcheck(norm, [np.array([3.0, 4.0])], gradient=lambda x: x / math.hypot(*x))
    assert report.ok, report
    assert not gradcheck(norm, [np.array([3.0, 4.0])], gradient=lambda x: x).ok


def test_an_array_for_a_value_takes_a_cotangent():
    report = gradcheck(lambda x: np.exp(x) * x, [X], gradient=lambda x, u: u * np.exp(x) * (1 + x))
    assert report.ok, report
    assert not gradcheck(lambda x: np.exp(x) * x, [X], gradient=lambda x, u: u * np.exp(x)).ok
    assert gradcheck(lambda x, i: x[i], [X, np.array([0, 2, 2])], gradient=rows).ok  # integers are passed on


def rows(x, i, u):
    g = np.zeros_like(x)
    np.add.at(g, i, u)
    return g


def test_what_it_returns_is_checked():
    with pytest.raises(ShapeError, match="the gradient of f is 1 arrays; need 2"):
        gradcheck(f, [X, W], gradient=lambda x, w: df(x, w)[0])


def test_from_torch():
    torch = pytest.importorskip("torch")

    def loss(x):
        return torch.nn.functional.softplus(x).sum()

    report = gradcheck(lambda x: loss(torch.tensor(x)).item(), [X], gradient=lambda x: torch.func.grad(loss)(torch.tensor(x)).numpy())
    assert report.ok, report


FILE = """
import numpy as np
from minivae import ops

def by_hand():
    return (lambda x: np.sum(x**3)), [np.linspace(1, 2, 5)], (lambda x: 3 * x**2)

def wrong():
    return (lambda x: np.sum(x**3)), [np.linspace(1, 2, 5)], (lambda x: x**2)

def tensors():
    return (lambda x: ops.tanh(x).sum()), {"x": np.linspace(-1, 1, 5)}

def breaks():
    return 1 / 0

def odd():
    return 3

number = 3
"""


@pytest.mark.parametrize(
    ("name", "code", "out", "err"),
    [
        ("by_hand", 0, "ok: 1 gradient agrees", ""),
        ("tensors", 0, "x", ""),
        ("wrong", 2, "WRONG", "the gradient of input 0 is wrong"),
        ("breaks", 2, "", "ZeroDivisionError: division by zero; need a function breaks() that returns (f, inputs)"),
        ("odd", 2, "", "odd() of "),
        ("number", 2, "", "has no function 'number'"),
        ("nothing", 2, "", "has no function 'nothing'"),
        ("", 2, "", "has no function ''"),
    ],
)
def test_a_strangers_file(tmp_path, capsys, name, code, out, err):
    file = tmp_path / "mine.py"
    file.write_text(FILE)
    assert main(["gradcheck", f"{file}:{name}", "--out", str(tmp_path / "v.png")]) == code
    printed = capsys.readouterr()
    assert out in printed.out
    assert err in printed.err
    assert printed.err.count("\n") == (1 if code else 0)
    assert main(["gradcheck", f"{tmp_path / 'no.py'}:f"]) == 2
    assert "there is no file" in capsys.readouterr().err
