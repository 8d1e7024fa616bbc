"""Subnormal numbers, below 1.2e-38 in float32, count as zero in products and where rows are scaled.

An Intel processor interrupts itself at every multiply-add that meets one.  They are no rarity: an importance weight
of e^-90 makes a row of them, and two rows in a hundred made the gradient of a layer four times as slow.  Beside an ordinary number of a sum
they are less than its rounding; a sum of nothing else is zero.

    mode = flush()
    ...  # x86: subnormal operands and results of vector and scalar arithmetic are zero; elsewhere nothing changes
    restore(mode)

The mode belongs to a thread, and to whatever else runs on it: so each piece of work sets it and puts it back.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .jit import intrinsic

FLUSH_RESULTS, OPERANDS_ARE_ZERO = 1 << 15, 1 << 6  # FTZ and DAZ of x86's register MXCSR: Intel's manual, volume 1, 10.2.3
REGISTER = ir.IntType(32)
ACCESS = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])


def _is_x86(builder) -> bool:
    return builder.module.triple.startswith(("x86", "i386", "i686", "amd64"))


def _call(builder, name, place):
    function = cgutils.get_or_insert_function(builder.module, ACCESS, name)
    builder.call(function, [builder.bitcast(place, ACCESS.args[0])])


@intrinsic
def flush(typing_context):
    """The mode before, as an int32; from here on subnormal numbers are zero."""

    def generate(context, builder, signature, arguments):
        if not _is_x86(builder):
            return REGISTER(0)
        place = cgutils.alloca_once(builder, REGISTER)
        _call(builder, "llvm.x86.sse.stmxcsr", place)
        mode = builder.load(place)
        builder.store(builder.or_(mode, REGISTER(FLUSH_RESULTS | OPERANDS_ARE_ZERO)), place)
        _call(builder, "llvm.x86.sse.ldmxcsr", place)
        return mode

    return types.int32(), generate


@intrinsic
def restore(typing_context, mode):
    """Go back to a mode."""

    def generate(context, builder, signature, arguments):
        if _is_x86(builder):
            place = cgutils.alloca_once_value(builder, arguments[0])
            _call(builder, "llvm.x86.sse.ldmxcsr", place)
        return context.get_dummy_value()

    return types.void(types.int32), generate
