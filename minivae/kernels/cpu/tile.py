"""The register tile: a block of C held in vector registers while a whole sum runs.  Every matrix product and convolution ends here.

    C[i, j]  =  max(floor,  S[i, j] + sum_k A[i, k] * B[k, j])           i < ROWS, j < WIDTH = 2 vectors of LANES floats

                              B  one row a step: 2 vector loads
                        +----------------+----------------+
                    k ->|  B[k, 0:LANES] | B[k, LANES:]   |
                        +----------------+----------------+
          A   +---+     +----------------+----------------+
       i=0    | a |     |  C[0, 0:LANES] | C[0, LANES:]   |
       i=1    | a |     |  C[1, 0:LANES] | C[1, LANES:]   |       schedule, for every k:
        ...   | a | x   |      ...       |      ...       |         load the two vectors of B[k]
       i=7    | a |     |  C[7, 0:LANES] | C[7, LANES:]   |         for every row i: broadcast A[i, k] to a vector,
              +---+     +----------------+----------------+           two fused multiply-adds into the accumulators of row i
                k         stays in registers for all k

Nothing of C is touched in memory until the sum is done.  The sum starts from S: a bias, or C itself to go on with a sum; floor = 0
makes it a relu, floor = -inf leaves it: neither costs a pass over memory.  ROWS x 2 accumulators hide the latency of the multiply-adds
(4 cycles, 2 a cycle) and leave room for B and A: 8 x 2 of 32 registers with AVX-512, 6 x 2 of 16 with AVX2 and SSE,
12 x 2 of 32 with NEON.

A needs no layout of its own.  Two tables say where its elements lie,

    A[i, k] = a[rows[i] + columns[k]],    C[i, j] = c[c_rows[i] + j],    S[i, j] = s[s_rows[i] + j],    B[k, j] = b[k * b_stride + j]

and that covers a matrix (rows[i] = i * stride, columns[k] = k), its transpose (the tables swapped), the patches of an image under
a convolution (rows: where a patch begins; columns: where a tap lies in a patch), and their transpose.  So no image is ever unfolded.
Two rows may be the same: the last tile of a matrix names its last row more than once, and stores the same numbers there again.

The tile is written as LLVM vector code through numba's `intrinsic`: no C compiler, and numba's disk cache keeps it.
"""

from collections.abc import Callable

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba.core import cgutils

from .cache import cpu
from .jit import intrinsic

FLOAT, INT, INDEX = ir.FloatType(), ir.IntType(64), ir.IntType(32)
BYTES = ir.IntType(8).as_pointer()
PREFETCH = ir.FunctionType(ir.VoidType(), [BYTES, INDEX, INDEX, INDEX])
AHEAD = 16  # rows of B


Processor = tuple[str, str, str]  # triple, name, features, in LLVM's words


def assembly(code: str, processor: Processor) -> str:
    """What LLVM makes of its own language on this or another processor."""
    if processor[0] == llvm.get_default_triple():
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
    else:  # a judge asks
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
    triple, name, features = processor
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=name, features=features, opt=3)
    return machine.emit_assembly(llvm.parse_assembly(f'target triple = "{triple}"\n{code}'))


def multiply_add_code(lanes: int) -> str:
    v = f"<{lanes} x float>"
    return f"""declare {v} @llvm.fma.v{lanes}f32({v}, {v}, {v})
    define {v} @probe({v} %a, {v} %b, {v} %c) {{ %d = call {v} @llvm.fma.v{lanes}f32({v} %a, {v} %b, {v} %c)  ret {v} %d }}"""


def choose(processor: Processor) -> tuple[int, int, bool]:
    """(ROWS, LANES, whether there is a multiply-add instruction).  Asks the compiler what it would emit: a name or a list of features
    does not tell, because on some processors that have 512-bit registers LLVM prefers not to use them."""
    text = assembly(multiply_add_code(16), processor)
    if "zmm" in text:
        return 8, 16, True
    if "ymm" in text and "vfmadd" in text:
        return 6, 8, True
    if "fmla" in text:  # ARM: 32 registers of 128 bits, and as many for addresses
        return 12, 4, True
    return 6, 4, "fmaf" not in text  # without the instruction llvm.fma becomes a call of the C function fmaf


ROWS, LANES, HAS_FMA = choose((llvm.get_default_triple(), *cpu()))
WIDTH = 2 * LANES


def tile_code(rows: int, vectors: int, lanes: int, has_fma: bool, packs: bool = False) -> Callable:
    """generate(context, builder, signature, arguments): the tile in LLVM's language, for numba or for a judge."""
    vector = ir.VectorType(FLOAT, lanes)
    block = [(i, v) for i in range(rows) for v in range(vectors)]

    def multiply_add(builder, x, y, z):
        if has_fma:
            fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}f32")
            return builder.call(fma, [x, y, z])
        # flags of its own, else numba adds all of its fast-math flags, and the order of the sum would be the optimizer's choice
        return builder.fadd(builder.fmul(x, y, flags=("contract",)), z, flags=("contract",))

    def generate(context, builder, signature, arguments):
        a, a_rows, columns, depth, b, b_stride, s, s_rows, c, c_rows, floor, *panel = arguments
        zero, one = INT(0), INT(1)

        def pointer(address, kind=FLOAT):
            return builder.inttoptr(address, kind.as_pointer())

        def every_lane(x):
            undefined = ir.Constant(vector, ir.Undefined)
            first = builder.insert_element(undefined, x, INDEX(0))
            return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(INDEX, lanes), [0] * lanes))

        def load_vector(floats, v):
            return builder.load(builder.bitcast(builder.gep(floats, [INT(v * lanes)]), vector.as_pointer()), align=4)

        def entry(table, i):
            return builder.load(builder.gep(pointer(table, INT), [INT(i)]))

        row_of_a = [builder.gep(pointer(a), [entry(a_rows, i)]) for i in range(rows)]
        first_row_of_b = pointer(b)
        row_of_c = [builder.gep(pointer(c), [entry(c_rows, i)]) for i in range(rows)]
        row_of_s = [builder.gep(pointer(s), [entry(s_rows, i)]) for i in range(rows)]
        prefetch = cgutils.get_or_insert_function(builder.module, PREFETCH, "llvm.prefetch.p0")
        initial = {(i, v): load_vector(row_of_s[i], v) for i, v in block}
        enter, loop, done = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed(">", depth, zero), loop, done)

        builder.position_at_end(loop)
        k, row_of_b = builder.phi(INT), builder.phi(FLOAT.as_pointer())
        total = {position: builder.phi(vector) for position in block}
        column = builder.load(builder.gep(pointer(columns, INT), [k]))
        b_k = [load_vector(row_of_b, v) for v in range(vectors)]
        if packs:
            row_of_panel = builder.gep(pointer(panel[0]), [builder.mul(k, INT(WIDTH))])
            for v in range(vectors):
                builder.store(b_k[v], builder.bitcast(builder.gep(row_of_panel, [INT(v * lanes)]), vector.as_pointer()), align=4)
                # B lies in the outer caches, and the processor does not guess strides: ask AHEAD rows early
                ahead = builder.gep(row_of_b, [builder.add(builder.mul(b_stride, INT(AHEAD)), INT(v * lanes))])
                builder.call(prefetch, [builder.bitcast(ahead, BYTES), INDEX(0), INDEX(3), INDEX(1)])
        added = {}
        for i in range(rows):
            a_ik = every_lane(builder.load(builder.gep(row_of_a[i], [column])))
            for v in range(vectors):
                added[i, v] = multiply_add(builder, a_ik, b_k[v], total[i, v])
        next_k, next_row_of_b = builder.add(k, one), builder.gep(row_of_b, [b_stride])
        k.add_incoming(zero, enter)
        k.add_incoming(next_k, loop)
        row_of_b.add_incoming(first_row_of_b, enter)
        row_of_b.add_incoming(next_row_of_b, loop)
        for position in block:
            total[position].add_incoming(initial[position], enter)
            total[position].add_incoming(added[position], loop)
        builder.cbranch(builder.icmp_signed("<", next_k, depth), loop, done)

        builder.position_at_end(done)
        result = {}
        for position in block:
            result[position] = builder.phi(vector)
            result[position].add_incoming(initial[position], enter)
            result[position].add_incoming(added[position], loop)
        floors = every_lane(floor)
        for i, v in block:
            low = builder.fcmp_ordered("<", result[i, v], floors)
            target = builder.bitcast(builder.gep(row_of_c[i], [INT(v * lanes)]), vector.as_pointer())
            builder.store(builder.select(low, floors, result[i, v]), target, align=4)
        return context.get_dummy_value()

    return generate


def make_tile(rows: int, vectors: int, lanes: int, has_fma: bool, packs: bool = False) -> Callable:
    """tile(a, a_rows, columns, depth, b, b_stride, s, s_rows, c, c_rows, floor) for a block of `rows` x (`vectors` * `lanes`) floats.

    A tile that `packs` takes one more address, and leaves the rows of B there, WIDTH floats apart: for the tiles that follow.

    The arrays and tables are addresses (`array.ctypes.data`; tables are int64); strides and table entries count floats.  depth may be 0.
    A NaN stays a NaN, whatever the floor.
    """
    generate = tile_code(rows, vectors, lanes, has_fma, packs)
    addresses = [numba.types.int64] * 10

    @intrinsic
    def tile(typing_context, a, a_rows, columns, depth, b, b_stride, s, s_rows, c, c_rows, floor):
        return numba.types.void(*addresses, numba.types.float32), generate

    @intrinsic
    def packing_tile(typing_context, a, a_rows, columns, depth, b, b_stride, s, s_rows, c, c_rows, floor, panel):
        return numba.types.void(*addresses, numba.types.float32, numba.types.int64), generate

    return packing_tile if packs else tile


tile_wide = make_tile(ROWS, 2, LANES, HAS_FMA)
tile_narrow = make_tile(ROWS, 1, LANES, HAS_FMA)  # for the last columns: no work on a vector that is all padding
tile_low = make_tile(ROWS // 2, 2, LANES, HAS_FMA)  # for the last rows
tile_packing = make_tile(ROWS, 2, LANES, HAS_FMA, packs=True)  # for the first rows
