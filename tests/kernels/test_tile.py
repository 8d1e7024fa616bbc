"""The register tile on processors that are not at hand: judged by the machine code that LLVM makes for them."""

import re

import pytest
from llvmlite import ir

from minivae.kernels.cpu.tile import assembly, choose, tile_code

LINUX, APPLE = "aarch64-unknown-linux-gnu", "arm64-apple-macosx"
ARM = [
    (LINUX, "cortex-a76", ""),
    (LINUX, "cortex-a53", ""),
    (LINUX, "neoverse-n1", ""),
    (LINUX, "neoverse-v2", ""),
    (APPLE, "apple-m1", ""),
]
X86 = [("x86_64-unknown-linux-gnu", name, "") for name in ("alderlake", "haswell", "znver3", "skylake-avx512", "sapphirerapids", "nehalem")]


def named(processor):
    return processor[1]


class Context:
    """All that a tile asks of numba."""

    def get_dummy_value(self):
        return None


def machine_code(processor, rows, vectors, lanes, has_fma):
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 10 + [ir.FloatType()]), "tile")
    builder = ir.IRBuilder(function.append_basic_block())
    tile_code(rows, vectors, lanes, has_fma)(Context(), builder, None, function.args)
    builder.ret_void()
    return assembly(re.sub("^target .*$", "", str(module), flags=re.MULTILINE), processor)


def inner_loop(text):
    """The instructions from the last label before the most multiply-adds to the jump back to it."""
    blocks = re.split(r"^(\.?L\w+):.*$", text, flags=re.MULTILINE)
    bodies = dict(zip(blocks[1::2], blocks[2::2], strict=True))
    loops = {
        label: body
        for label, body in bodies.items()
        if re.search(rf"^\s+(?:b\.|j|cb|tb)\w+\s(?:.*[\s,])?{re.escape(label)}$", body, re.MULTILINE)
    }
    body = max(loops.values(), key=lambda body: len(re.findall(r"fmla|vfmadd|mulps", body)))
    return [line.strip() for line in body.splitlines() if line.startswith("\t") and not line.strip().startswith((".", "#", "//", ";"))]


@pytest.mark.parametrize("processor", ARM, ids=named)
def test_arm(processor):
    """Twelve rows of two vectors: each step is 24 multiply-adds, for 12 numbers of A, 2 vectors of B and one entry of a table, which may
    come in pairs; nothing goes to the stack."""
    rows, lanes, has_fma = choose(processor)
    assert (rows, lanes, has_fma) == (12, 4, True)
    loop = inner_loop(machine_code(processor, rows, 2, lanes, has_fma))
    multiply_adds = [line for line in loop if line.startswith("fmla")]
    loads = [line for line in loop if line.startswith("ld")]
    assert len(multiply_adds) == 24, loop
    assert 13 <= len(loads) <= 15, loads
    assert not [line for line in loop if re.search(r"\bsp\b", line) or line.startswith("st")]


@pytest.mark.parametrize("processor", X86, ids=named)
def test_x86(processor):
    """As many multiply-adds as the tile has vectors, and nothing that goes to the stack but addresses."""
    rows, lanes, has_fma = choose(processor)
    loop = inner_loop(machine_code(processor, rows, 2, lanes, has_fma))
    assert len([line for line in loop if line.startswith("vfmadd" if has_fma else ("mulps", "vmulps"))]) == 2 * rows
    assert not [line for line in loop if re.search(r"(zmm|ymm|xmm)\d+.*\(%r[sb]p\)|\(%r[sb]p\).*(zmm|ymm|xmm)", line)]


def test_a_spill_is_seen():
    """16 rows of two vectors do not fit: the judge says so."""
    loop = inner_loop(machine_code(ARM[0], 16, 2, 4, True))
    assert [line for line in loop if re.search(r"\bsp\b", line)]
