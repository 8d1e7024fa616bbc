"""One change in one formula: what `tests/mutation.py` plants.  A sign flipped, a factor or a term dropped, 2 and 1/2 made 1.

The formulas are those of every op's reference and vjp with the functions that they call, of the engine's sums of gradients, of every
distribution, of every objective, of the estimate of log p(x) and of the ELBO's surgery.  Refusals, shapes, subscripts and docstrings are
left alone.
"""

import ast
import copy
import dis
import functools
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType

from minivae import Op, distributions, engine, objectives
from minivae.evaluate import likelihood, surgery
from minivae.ops import normalization

Place = tuple[ast.AST, str, int | None, bool]  # parent, field, index in it, and whether it is returned


@dataclass(frozen=True)
class Mutant:
    module: str
    function: FunctionType
    code: CodeType
    line: int
    change: str  # "a * b -> a"

    @property
    def name(self) -> str:
        return self.function.__qualname__

    def __str__(self) -> str:
        return f"{self.module}.{self.name}, line {self.line}: {self.change}"


def calls(function: FunctionType) -> set[FunctionType]:
    """The function, and the functions of the ops' files that it calls, and so on."""
    found: set[FunctionType] = set()
    pending = [function]
    while pending:
        function = pending.pop()
        if function in found or not function.__module__.startswith("minivae.ops.") or function.__name__.startswith("check_"):
            continue
        found.add(function)
        codes = [function.__code__]
        for code in codes:
            codes.extend(inner for inner in code.co_consts if isinstance(inner, CodeType))
            names = [i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL"]
            pending.extend(v for v in map(function.__globals__.get, names) if isinstance(v, FunctionType))
    return found


@functools.cache
def of_ops() -> dict[FunctionType, list[str]]:
    """Every function that a reference is made of, and the ops that need it."""
    found: dict[FunctionType, list[str]] = {}
    for name, op in Op.registry.items():
        if op.reference[0].__module__.startswith("minivae."):
            for function in calls(op.reference[0]) | calls(op.reference[1]):  # type: ignore[arg-type]
                found.setdefault(function, []).append(name)
    return found


def written_in(module: ModuleType) -> Iterator[FunctionType]:
    """The public functions of a module, and the methods of its classes."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", "") != module.__name__:
            continue
        for method in vars(value).values() if isinstance(value, type) else [value]:
            method = getattr(method, "fget", None) or getattr(method, "__func__", None) or method
            if (
                isinstance(method, FunctionType)
                and method.__module__ == module.__name__
                and not method.__name__.startswith(("_", "<", "check"))
            ):
                yield method


def files_of(module: ModuleType) -> Iterator[ModuleType]:
    """The files of a package, or the module itself."""
    if not hasattr(module, "__path__"):
        yield module
    for found in pkgutil.iter_modules(getattr(module, "__path__", [])):
        yield importlib.import_module(f"{module.__name__}.{found.name}")


def functions() -> Iterator[tuple[str, FunctionType]]:
    """(module, function) of all that is mutated."""
    for function in sorted(of_ops(), key=lambda f: (f.__module__, f.__code__.co_firstlineno)):
        yield function.__module__.removeprefix("minivae.ops."), function
    yield from (("engine", function) for function in (engine.unbroadcast, engine._sum))
    yield "dropout", normalization.dropout
    for module in (distributions, objectives, likelihood, surgery):
        name = module.__name__.rpartition(".")[2]
        yield from ((name, function) for part in files_of(module) for function in written_in(part))


def changes(node: ast.AST, returned: bool) -> Iterator[ast.expr]:
    """What may stand in the place of an expression."""
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.Add | ast.Sub):
            plus = isinstance(node.op, ast.Add)
            yield ast.BinOp(node.left, ast.Sub() if plus else ast.Add(), node.right)
            yield node.left
            yield node.right if plus else ast.UnaryOp(ast.USub(), node.right)
        elif isinstance(node.op, ast.Mult):
            yield node.left
            yield node.right
        elif isinstance(node.op, ast.Div):
            yield node.left
            if not isinstance(node.left, ast.Constant):
                yield ast.BinOp(ast.Constant(1), ast.Div(), node.right)
        elif isinstance(node.op, ast.Pow):
            yield node.left
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        if not isinstance(node.operand, ast.Constant) or type(node.operand.value) is float:
            yield node.operand
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value in (2, 0.5):
        yield ast.Constant(1)
    if returned and not isinstance(node, ast.Starred):
        yield ast.UnaryOp(ast.USub(), node)  # type: ignore[arg-type]


def statements(node: ast.AST) -> Iterator[ast.stmt]:
    """What may stand in the place of a statement: a += b and a *= b."""
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
        yield ast.AugAssign(node.target, ast.Sub(), node.value)
    if isinstance(node, ast.AugAssign):
        yield ast.Pass()


def places(tree: ast.FunctionDef) -> Iterator[Place]:
    """Every expression and statement but those of docstrings, refusals, subscripts and defaults."""
    pending: list[tuple[ast.AST, bool]] = [(node, False) for node in tree.body]
    pending[:0] = [(tree, False)]
    while pending:
        node, returned = pending.pop(0)
        if isinstance(node, ast.Raise | ast.JoinedStr) or (isinstance(node, ast.If) and any(isinstance(s, ast.Raise) for s in node.body)):
            continue
        for field, value in ast.iter_fields(node):
            if field in ("slice", "args", "decorator_list", "returns") and not isinstance(node, ast.Call):
                continue
            for i, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if not isinstance(child, ast.AST):
                    continue
                # what is returned beside a value, as a tuple, is for the vjp
                is_returned = isinstance(node, ast.Return) or (returned and not (isinstance(node, ast.IfExp) and field == "test"))
                signed = not isinstance(child, ast.Tuple | ast.List | ast.IfExp | ast.UnaryOp | ast.Constant)
                if isinstance(child, ast.expr | ast.AugAssign):
                    yield node, field, i, is_returned and signed
                if node is not tree:
                    holds = isinstance(child, ast.IfExp) or (isinstance(child, ast.Tuple) and isinstance(node, ast.Return))
                    pending.append((child, is_returned and holds))


def mutants() -> Iterator[Mutant]:
    for module, function in functions():
        lines, first = inspect.getsourcelines(function)
        (tree,) = ast.parse(textwrap.dedent("".join(lines))).body
        assert isinstance(tree, ast.FunctionDef)
        tree.decorator_list = []
        for k, (parent, field, i, returned) in enumerate(places(tree)):
            value = getattr(parent, field)
            original = value if i is None else value[i]
            for new in [*changes(original, returned), *statements(original)]:
                twin = copy.deepcopy(tree)
                where, name, index, _ = list(places(twin))[k]
                if index is None:
                    setattr(where, name, copy.deepcopy(new))
                else:
                    getattr(where, name)[index] = copy.deepcopy(new)
                names = dict(function.__globals__)
                exec(compile(ast.fix_missing_locations(ast.Module([twin], [])), function.__code__.co_filename, "exec"), names)
                line = first + getattr(original, "lineno", 1) - 1
                yield Mutant(module, function, names[tree.name].__code__, line, f"{ast.unparse(original)} -> {ast.unparse(new)}")
