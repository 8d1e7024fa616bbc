"""What the GPU's products are made of, read from their machine code: no GPU is needed.

    python benchmarks/gpu_code.py [--architecture 90] [--precision fp32] [NAME ...]

For each kernel that is a product (or those whose names hold a NAME): the instructions of a thread in one round of its loop over K,
DEPTH of tile.cu deep, and the share of them that are multiply-adds; first of the loop that reads four numbers at once, then of the one that
reads them one by one.  A processor issues one instruction a cycle for 32 lanes, so that the share is the most of its peak that the loop
can reach.  Needs the wheels nvidia-cuda-nvrtc and nvidia-cuda-nvdisasm.
"""

import argparse
import ctypes
import functools
import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import minivae.kernels.gpu  # noqa: F401  its kernels are declared when it is loaded
from minivae.kernels.gpu.launcher import Kernel, source

PRODUCTS = ("FFMA", "HMMA")
FILES = ("gemm.cu", "conv.cu", "fold.cu", "few.cu")
ADDRESS = re.compile(r"^\s*/\*([0-9a-f]+)\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)([^;]*);")


def in_wheels(pattern: str) -> Path:
    """A file of NVIDIA's wheels.  Raises FileNotFoundError."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob(pattern)):
            return path
    raise FileNotFoundError(f"no {pattern}; pip install nvidia-cuda-nvrtc nvidia-cuda-nvdisasm")


def cubin(file: str, defines: tuple[str, ...], architecture: int) -> bytes:
    """The machine code of a source, with the options that CuPy gives NVRTC.  Raises RuntimeError with what the compiler says."""
    library = ctypes.CDLL(str(in_wheels("*/lib/libnvrtc.so.*")))
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    library.nvrtcCreateProgram(ctypes.byref(program), source(file).encode(), file.encode(), 0, None, None)
    options = ["--std=c++17", f"--gpu-architecture=sm_{architecture}", "-ftz=true", *(f"-D{name}" for name in defines)]
    failed = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*[o.encode() for o in options]))
    if failed:
        library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        library.nvrtcGetProgramLog(program, log)
        raise RuntimeError(log.value.decode())
    library.nvrtcGetCUBINSize(program, ctypes.byref(size))
    code = ctypes.create_string_buffer(size.value)
    library.nvrtcGetCUBIN(program, code)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return code.raw


def disassembled(code: bytes) -> dict[str, list[tuple[int, str, str]]]:
    """{kernel: [(address, instruction, operands)]}, labels resolved to addresses."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        command = [str(in_wheels("*/bin/nvdisasm")), "-c", "-novliw", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kernels: dict[str, list[tuple[int, str, str]]] = {}
    for section in re.split(r"^\s*\.section\s+\.text\.", text, flags=re.MULTILINE)[1:]:
        name = re.match(r"\w+", section)[0]  # type: ignore[index]
        labels, waiting, found = {}, [], []
        for line in section.splitlines():
            label = re.match(r"^(\.L_x?_?\w+):", line)
            if label:
                waiting.append(label[1])
            match = ADDRESS.match(line)
            if match:
                address = int(match[1], 16)
                labels.update(dict.fromkeys(waiting, address))
                waiting = []
                found.append((address, match[2], match[3]))
        resolved = functools.partial(re.sub, r"`\((\.L_x?_?\w+)\)", lambda m, known=labels: hex(known.get(m[1], -1)))
        kernels[name] = [(at, op, resolved(rest)) for at, op, rest in found]
    return kernels


def rounds(instructions: list[tuple[int, str, str]]) -> list[tuple[int, int, bool]]:
    """(instructions, multiply-adds, four at once) of one round over K, for each innermost loop that holds products; those that read four
    numbers at once come first."""
    found: list[tuple[int, int, int, int, bool]] = []
    for at, op, rest in instructions:
        target = re.search(r"0x([0-9a-f]+)\s*$", rest) if op.startswith("BRA") else None
        if target and int(target[1], 16) < at:
            body = [name for place, name, _ in instructions if int(target[1], 16) <= place <= at]
            products = sum(name.split(".")[0] in PRODUCTS for name in body)
            if products:
                fours = any(name.startswith("LDG") and "128" in name for name in body)
                found.append((int(target[1], 16), at, len(body), products, fours))
    inner = [loop for loop in found if not any(loop[0] <= other[0] and other[1] <= loop[1] for other in found if other is not loop)]
    return sorted([loop[2:] for loop in inner], key=lambda loop: (not loop[2], loop[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", type=int, default=90, help="90 is Hopper, 80 Ampere, 100 Blackwell")
    parser.add_argument("--precision", choices=("fp32", "tf32"), help="of the products; both if not said")
    parser.add_argument("names", metavar="NAME", nargs="*")
    asked = parser.parse_args()
    print(f"{'kernel':24s}{'reads':>7s}{'instructions':>14s}{'multiply-adds':>15s}{'share':>8s}")
    for file in FILES:
        for defines in sorted({k.defines for k in Kernel.registry.values() if k.file == file}):
            if asked.precision and defines and asked.precision.upper() not in defines:
                continue
            for name, code in sorted(disassembled(cubin(file, defines, asked.architecture)).items()):
                if not asked.names or any(part in name for part in asked.names):
                    for total, products, fours in rounds(code):
                        print(f"{name:24s}{'four' if fours else 'one':>7s}{total:14d}{products:15d}{products / total:8.0%}", flush=True)


if __name__ == "__main__":
    main()
