"""Mutation: would the tests notice?  Signs flipped, factors and terms dropped, 2 and 1/2 made 1, in every op and every distribution.

    python tests/mutation.py [--fast] [--quick] [NAME ...]      --fast takes every 12th mutant, --quick asks the laws alone; NAMEs are
                                                                parts of the names of functions

A mutant is one change in the syntax tree of one reference forward, vjp, or method.  Its code takes the original's place inside of this
process, and the laws of tests/ops judge it: complex steps and independent values first, at few examples; if it lives, the test files of its
family run as they are.  Prints the survivors and the score.
"""

import argparse
import ast
import contextlib
import copy
import importlib
import inspect
import io
import os
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests is a package beside minivae

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from minivae import Op, distributions, use_backend

OPS = ("activations", "arithmetic", "conv", "dense", "densities", "normalization", "recurrent", "reductions", "shapes")
METHODS = ("log_prob", "sample", "mean", "sigma", "probabilities", "from_log_sigma")
DISTRIBUTIONS = [f"tests/test_distributions{part}.py" for part in ("_gradients", "", "_kl", "_samples")]
FAMILIES = {"conv": ["tests/ops/test_conv.py"], "recurrent": ["tests/ops/test_recurrent.py"]}
LAST = ["tests/ops/test_table.py", "tests/ops/test_judges.py", "tests/ops/test_values.py"]
SECONDS = 300  # a mutant that takes longer than all tests do is stuck, and counts as noticed

EQUIVALENT: dict[tuple[str, str], str] = {}  # (function, change): why no test can notice


@dataclass(frozen=True)
class Mutant:
    module: str
    function: FunctionType
    code: CodeType
    change: str  # "line 12: a * b -> a"

    @property
    def name(self) -> str:
        return self.function.__qualname__

    def __str__(self) -> str:
        return f"{self.module}.{self.name}, {self.change}"


def functions() -> Iterator[tuple[str, FunctionType]]:
    """(module, function) of all references of ops with what they call in their files, and of the distributions' methods."""
    for name in OPS:
        module = importlib.import_module(f"minivae.ops.{name}")
        for value in list(vars(module).values()):
            own = isinstance(value, FunctionType) and value.__module__ == module.__name__
            if own and "numba" not in value.__name__ and not value.__name__.startswith(("check_", "compiled", "dropout", "_rows")):
                yield name, value
    yield "distributions", distributions.kl
    for kind in vars(distributions).values():
        if isinstance(kind, type) and kind.__module__ == distributions.__name__:
            for name in METHODS:
                method = vars(kind).get(name)
                method = getattr(method, "fget", None) or getattr(method, "__func__", None) or method
                if isinstance(method, FunctionType):
                    yield "distributions", method


def changes(node: ast.AST, returned: bool) -> Iterator[ast.expr]:
    """What may stand in the place of an expression."""
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.Add | ast.Sub):
            swapped = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
            yield ast.BinOp(node.left, swapped, node.right)
            yield node.left
        elif isinstance(node.op, ast.Mult):
            yield node.left
            yield node.right
        elif isinstance(node.op, ast.Div):
            yield node.left
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
        yield node.operand
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value in (2, 0.5):
        yield ast.Constant(1)
    if returned:
        yield ast.UnaryOp(ast.USub(), node)


def places(tree: ast.FunctionDef, vjp: bool) -> Iterator[tuple[ast.AST, str, int | None, bool]]:
    """(parent, field, index, returned) of every expression but those of docstrings, refusals, subscripts and defaults."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop(0)
        if isinstance(node, ast.Raise | ast.JoinedStr) or (isinstance(node, ast.If) and any(isinstance(s, ast.Raise) for s in node.body)):
            continue
        for field, value in ast.iter_fields(node):
            if field == "slice":
                continue
            for i, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(child, ast.expr) and not (isinstance(child, ast.Constant) and child.value is None):
                    gradient = vjp and isinstance(node, ast.Return) and not isinstance(child, ast.Tuple | ast.IfExp | ast.Call)
                    gradient |= vjp and isinstance(node, ast.Tuple) and getattr(node, "of_return", False)
                    yield node, field, i, gradient and not isinstance(child, ast.UnaryOp | ast.IfExp)
                if isinstance(child, ast.AST):
                    if isinstance(node, ast.Return) and isinstance(child, ast.Tuple):
                        child.of_return = True  # type: ignore[attr-defined]
                    pending.append(child)


def mutants() -> Iterator[Mutant]:
    for module, function in functions():
        lines, first = inspect.getsourcelines(function)
        (tree,) = ast.parse(textwrap.dedent("".join(lines))).body
        assert isinstance(tree, ast.FunctionDef)
        tree.decorator_list = []
        for k, (parent, field, i, returned) in enumerate(places(tree, "vjp" in function.__name__)):
            value = getattr(parent, field)
            original = value if i is None else value[i]
            for new in changes(original, returned):
                twin = copy.deepcopy(tree)
                where, name, index, _ = list(places(twin, "vjp" in function.__name__))[k]
                if index is None:
                    setattr(where, name, copy.deepcopy(new))
                else:
                    getattr(where, name)[index] = copy.deepcopy(new)
                names = dict(function.__globals__)
                exec(compile(ast.fix_missing_locations(ast.Module([twin], [])), function.__code__.co_filename, "exec"), names)
                line = first + getattr(original, "lineno", 1) - 1
                change = f"{ast.unparse(original)} -> {ast.unparse(new)}"
                yield Mutant(module, function, names[tree.name].__code__, f"line {line}: {change}")


@contextlib.contextmanager
def in_place(mutant: Mutant) -> Iterator[None]:
    original = mutant.function.__code__
    mutant.function.__code__ = mutant.code
    try:
        yield
    finally:
        mutant.function.__code__ = original


def laws(mutant: Mutant) -> Iterator[Callable[[], object]]:
    """The quick judges: of the function's own ops first, of all ops if it belongs to none."""
    from tests.ops import test_judges, test_table

    own = [name for name, op in Op.registry.items() if mutant.function in op.reference and name in test_table.TABLE]
    for name in own or test_table.TABLE:
        yield lambda name=name: test_table.test_gradient_is_the_complex_step(name)
        if name in test_judges.JUDGES:
            yield lambda name=name: test_judges.test_values(name)


def files(mutant: Mutant) -> list[str]:
    if mutant.module == "distributions":
        return DISTRIBUTIONS
    return FAMILIES.get(mutant.module, []) + LAST + (DISTRIBUTIONS if mutant.module == "densities" else [])


class Stuck(BaseException):
    pass


def stuck(*_: object) -> None:
    raise Stuck


def noticed_by_laws(mutant: Mutant) -> bool:
    try:
        with in_place(mutant), np.errstate(all="ignore"), use_backend("numpy"):
            for law in laws(mutant):
                law()
    except Exception:  # whatever a law or an op raises has been noticed
        return True
    return False


def noticed_by_files(mutant: Mutant) -> bool:
    with in_place(mutant), contextlib.redirect_stdout(io.StringIO()):
        return pytest.main(["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", *files(mutant)]) != pytest.ExitCode.OK


def noticed(mutant: Mutant, quick: bool = False) -> bool:
    """Whether a test fails on it."""
    signal.signal(signal.SIGALRM, stuck)
    signal.alarm(SECONDS)
    try:
        by_law = mutant.module != "distributions" and noticed_by_laws(mutant)
        return by_law or (not quick and noticed_by_files(mutant))
    except Stuck:
        return True
    finally:
        signal.alarm(0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="every 12th mutant")
    parser.add_argument("--quick", action="store_true", help="the laws alone: no test files, and no distributions")
    parser.add_argument("names", metavar="NAME", nargs="*", help="only functions whose name holds one of these")
    options = parser.parse_args()
    os.chdir(Path(__file__).parents[1])
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # hypothesis's plugin wants to be loaded before hypothesis
    # the tests are imported after this, and keep it
    settings.register_profile("mutation", max_examples=5, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    settings.load_profile("mutation")
    chosen = [m for m in mutants() if not options.names or any(name in f"{m.module}.{m.name}" for name in options.names)]
    chosen = [m for m in chosen if m.module != "distributions"] if options.quick else chosen
    chosen = chosen[::12] if options.fast else chosen
    survivors, equivalent = [], []
    for sound in {m.module: Mutant(m.module, m.function, m.function.__code__, "no change") for m in chosen}.values():
        if noticed(sound, options.quick):
            print(f"{sound.module}: the tests fail as it is; there is nothing to learn from mutants")
            return 2
    for i, mutant in enumerate(chosen):
        if (mutant.name, mutant.change.partition(": ")[2]) in EQUIVALENT:
            equivalent.append(mutant)
        elif not noticed(mutant, options.quick):
            survivors.append(mutant)
            print(f"survives: {mutant}", flush=True)
        if i % 100 == 99:
            print(f"{i + 1} of {len(chosen)}", flush=True)
    judged = len(chosen) - len(equivalent)
    for mutant in equivalent:
        print(f"equivalent: {mutant}: {EQUIVALENT[mutant.name, mutant.change.partition(': ')[2]]}")
    print(f"{judged - len(survivors)} of {judged} mutants noticed; {len(equivalent)} more are equivalent to the original")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main())
