"""The list of ops, from the ops themselves: they are objects, of which autodoc can say nothing."""

import inspect

from minivae import Op, ops


def operations() -> None:
    """Print, as MyST, the signature and the docstring of every public op."""
    for name in ops.__all__:
        op = getattr(ops, name)
        function = op.reference[0] if isinstance(op, Op) else op
        signature = inspect.signature(function)
        bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
        text = inspect.getdoc(function) or "Two lines of code: see its source."
        print(f"````{{py:function}} minivae.ops.{name}{inspect.Signature(bare)}")
        print(f":no-contents-entry:\n\n```{{code-block}} text\n:class: docstring\n\n{text}\n```\n````\n")
