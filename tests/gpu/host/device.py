"""A Device that runs the CUDA sources on the CPU: cuda_host.h compiled with g++, called through ctypes, arrays from NumPy."""

import ctypes
import hashlib
import mmap
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from minivae.kernels.gpu.launcher import ARRIVALS, Device, Kernel, source

HEADER = Path(__file__).with_name("cuda_host.h")
CACHE = Path(tempfile.gettempdir()) / f"minivae-cuda-host-{os.getuid() if hasattr(os, 'getuid') else 0}"
C_TYPES = {
    "float32": "float",
    "float64": "double",
    "int32": "int",
    "int64": "long long",
    "uint8": "unsigned char",
    "uint32": "unsigned int",
    "uint64": "unsigned long long",
}
# -Bsymbolic: a kernel may be called what a function of the C library is called
FLAGS = ["-std=c++17", "-O1", "-shared", "-fPIC", "-Wl,-Bsymbolic", "-fno-strict-aliasing", "-ffp-contract=off", "-U_FORTIFY_SOURCE", "-w"]
PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)


class HostError(AssertionError):
    """What the host found wrong in a kernel."""


def entry(kernel):
    """C++ that unpacks a kernel's arguments, addresses of values as in cuLaunchKernel, and runs it."""
    casts = [f"*({C_TYPES.get(p.type, p.type)}{'*' if p.length else ''}*)values[{i}]" for i, p in enumerate(kernel.parameters)]
    return (
        f"static void call_{kernel.name}(void** values) {{ {kernel.name}({', '.join(casts)}); }}\n"
        f'extern "C" const char* host_{kernel.name}(const unsigned* grid, const unsigned* block, void** values, int backwards) '
        f"{{ return cuda_host::run(call_{kernel.name}, grid, block, values, backwards); }}\n"
    )


def library(file, defines, text):
    """The source and entries for its kernels as a loaded library, compiled once for its contents."""
    kernels = [k for k in Kernel.registry.values() if (k.file, k.defines) == (file, defines)]
    code = "".join(f"#define {name}\n" for name in defines) + text + "".join(map(entry, kernels))
    digest = hashlib.sha256((code + HEADER.read_text() + " ".join(FLAGS)).encode()).hexdigest()[:24]
    CACHE.mkdir(mode=0o700, exist_ok=True)
    path = CACHE / f"{Path(file).stem}-{digest}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            cpp, built = Path(folder) / "kernel.cpp", Path(folder) / "kernel.so"
            cpp.write_text(f'#include "{HEADER}"\n{code}')
            done = subprocess.run(["g++", *FLAGS, str(cpp), "-o", str(built)], capture_output=True, text=True, timeout=600)
            if done.returncode:
                raise HostError(f"g++ rejects {file}:\n{done.stderr[:4000]}")
            built.replace(path)
    return ctypes.CDLL(str(path))


class Guarded:
    """A copy of an array's bytes beside a page that may not be touched: before its first byte, or behind its last."""

    def __init__(self, array, behind):
        size = array.nbytes
        pages = -(-size // PAGE) * PAGE
        self.memory = mmap.mmap(-1, pages + 2 * PAGE)
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        for page in (self.start, self.start + PAGE + pages):
            if libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(PAGE), 0):
                raise OSError(ctypes.get_errno(), "mprotect")
        self.array, self.size = array, size
        self.address = self.start + PAGE + (pages - size if behind else 0)
        ctypes.memmove(self.address, array.ctypes.data, size)

    def copy_back(self):
        ctypes.memmove(self.array.ctypes.data, self.address, self.size)


class HostDevice(Device):
    """`backwards` runs the last thread first, and puts the forbidden page in front of each array instead of behind it.

    changed: replaces a file's text, so that a test may plant a mistake.
    """

    array = np.ndarray

    def __init__(self, backwards=False, changed=None):
        self.backwards, self.changed = backwards, changed or {}
        self.libraries, self.guarded, self.launches = {}, [], []
        self.counters = np.zeros(ARRIVALS, np.uint32)

    def empty(self, shape, dtype):
        array = np.empty(shape, dtype)
        array.view(np.uint8 if array.ndim else dtype)[...] = 0xFF if array.ndim else np.nan  # NaN: what is not written is seen
        return array

    def load(self, kernel):
        variant = kernel.file, kernel.defines
        if variant not in self.libraries:
            text = self.changed.get(kernel.file) or source(kernel.file)
            self.libraries[variant] = library(*variant, text)
        function = self.libraries[variant][f"host_{kernel.name}"]
        function.restype = ctypes.c_char_p
        return kernel, function

    def arrived(self):
        assert not self.counters.any(), "the last launch left blocks that never met"
        return self.counters

    def address(self, x):
        for guard in self.guarded:
            if guard.array is x:
                return guard.address
        if not x.size:
            return 0
        self.guarded.append(Guarded(x, not self.backwards))
        return self.guarded[-1].address

    def launch(self, function, grid, block, values):
        kernel, run = function
        self.launches.append(kernel.name)
        held = [value if isinstance(value, np.ndarray) else np.array(value, np.uint64 if p.length else p.dtype)
                for p, value in zip(kernel.parameters, values, strict=True)]  # fmt: skip
        addresses = (ctypes.c_void_p * len(held))(*[value.ctypes.data for value in held])
        sizes = [(ctypes.c_uint * 3)(*(*n, 1, 1)[:3]) for n in (grid, block)]
        found = run(*sizes, addresses, int(self.backwards))
        guards, self.guarded = self.guarded, []
        for guard in guards:
            guard.copy_back()
        if found:
            raise HostError(f"{kernel.name}: {found.decode()}")


def declared_in_source(file, defines=()):
    """{kernel: [(type, is_array, name)]} as a .cu file declares them, macros expanded by the preprocessor."""
    command = ["g++", "-E", "-P", "-x", "c++", *(f"-D{name}" for name in defines), "-"]
    text = subprocess.run(command, input=source(file), capture_output=True, text=True, check=True).stdout
    types = {c: name for name, c in C_TYPES.items()}
    kernels = {}
    for name, arguments in re.findall(r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(([^)]*)\)', text):
        kernels[name] = []
        for argument in re.sub(r"\b(const|__restrict__)\b", "", arguments).split(","):
            kind, array, own = re.fullmatch(r"\s*([\w ]+?)\s*(\*?)\s*(\w+)\s*", argument).groups()
            kernels[name].append((types.get(kind, kind), bool(array), own))
    return kernels


def has_compiler():
    return shutil.which("g++") is not None
