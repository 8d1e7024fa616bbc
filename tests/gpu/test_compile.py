"""Every CUDA source is compiled to machine code for three generations of GPUs, as CuPy compiles it.

A warning is an error, and so is a spilled register, or an access of which the compiler does not know that it is to global memory.
"""

import ctypes
import importlib.util
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest

import minivae.kernels.gpu.exact
import minivae.kernels.gpu.step  # noqa: F401  their kernels are declared when they are loaded
from minivae.kernels.gpu.launcher import SOURCES, Kernel, source

from ..processes import common_folder, once
from .host.device import declared_in_source, has_compiler

VARIANTS = sorted({(k.file, k.defines) for k in Kernel.registry.values()})
OFTEN, SELDOM = (80, 90), (100,)  # A100, H100 and H200; B200, with -m slow
AS_CUPY = ("-ftz=true",)  # what CuPy adds to the launcher's own options (cupy/cuda/compiler.py): subnormal numbers are zeros


def nvcc_command(path, defines, architecture):
    strict = ["-Werror=all-warnings", "-Xptxas", "--warning-as-error,--warn-on-spills"]
    options = ["-std=c++17", *AS_CUPY, *strict, *(f"-D{name}" for name in defines), f"-arch=sm_{architecture}", "-cubin"]
    return ["nvcc", *options, str(path), "-o", str(path.with_suffix(".cubin"))]


def by_nvcc(text, defines, architecture, folder):
    path = folder / f"{abs(hash((text, defines)))}-{architecture}.cu"
    path.write_text(text)
    done = subprocess.run(nvcc_command(path, defines, architecture), capture_output=True, text=True, timeout=300)
    return done.stderr + done.stdout if done.returncode else ""


@cache
def nvrtc():
    """The compiler of the wheel nvidia-cuda-nvrtc, or None."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob("*/lib/libnvrtc.so.*")):
            return ctypes.CDLL(str(path))
    return None


def by_nvrtc(text, defines, architecture, _, look=lambda ptx: None):
    library, program, size = nvrtc(), ctypes.c_void_p(), ctypes.c_size_t()
    assert library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None) == 0
    options = [
        "--std=c++17",
        *AS_CUPY,
        f"--gpu-architecture=sm_{architecture}",
        "--ptxas-options=--warn-on-spills",
        *(f"-D{name}" for name in defines),
    ]
    failed = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*[o.encode() for o in options]))

    def text_of(what):
        getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        found = ctypes.create_string_buffer(size.value)
        getattr(library, f"nvrtcGet{what}")(program, found)
        return found.value.decode()

    log = text_of("ProgramLog") or ("it failed, and says nothing" if failed else "")
    if not failed:
        ptx = text_of("PTX")
        look(ptx)
        log += generic(ptx)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return log


def generic(ptx):
    """A sentence for the first load or store without an address space: it is slower, as it may be to shared or local memory as well."""
    for entry in re.split(r"\.entry ", ptx)[1:]:
        found = re.search(r"\b(ld|st)\.(?!global|shared|param|local|const)[\w.]+", entry)
        if found:
            return f"{entry[: entry.index('(')].strip()}: {found[0]} has no address space; keep the pointer that of an argument, never null"
    return ""


COMPILERS = {"nvcc": by_nvcc, "nvrtc": by_nvrtc}


def compiler(name):
    if name == "nvcc" and shutil.which("nvcc") is None:
        pytest.skip("nvcc is not installed")
    if name == "nvrtc" and nvrtc() is None:
        pytest.skip("the wheel nvidia-cuda-nvrtc is not installed")
    return COMPILERS[name]


@pytest.fixture(scope="module")
def complaints(tmp_path_factory):
    """What a compiler says about each (file, defines, architecture): all compiled at once, two at a time, by one process for all."""

    def compiled(name, architectures):
        compile, folder = COMPILERS[name], tmp_path_factory.mktemp(name)
        if shutil.which("nvcc") is not None and nvrtc() is not None:  # each does what the other leaves
            architectures = [a for a in architectures if (a == 90) == (name == "nvrtc")]
        jobs = [(file, defines, architecture) for file, defines in VARIANTS for architecture in architectures]
        with ThreadPoolExecutor(2) as pool:
            texts = pool.map(lambda job: compile(source(job[0]), job[1], job[2], folder), jobs)
            return [*zip(jobs, texts, strict=True)]

    @cache
    def said(name, architectures):
        compiler(name)
        found = once(common_folder(tmp_path_factory), f"{name} {architectures}", lambda: compiled(name, architectures))
        return {(file, tuple(defines), architecture): text for (file, defines, architecture), text in found}

    return said


@pytest.mark.parametrize("architectures", [OFTEN, pytest.param(SELDOM, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", COMPILERS)
@pytest.mark.parametrize(("file", "defines"), VARIANTS)
def test_compiles_without_a_warning(complaints, name, file, defines, architectures):
    said = {job[2]: text for job, text in complaints(name, architectures).items() if job[:2] == (file, defines)}
    assert said or (name == "nvrtc" and architectures == SELDOM)
    assert not any(said.values()), said


@pytest.mark.parametrize("name", COMPILERS)
def test_a_warning_is_an_error(name, tmp_path):
    text = 'extern "C" __global__ void planted(float* x) { int unused; x[0] = 1; }'
    assert "unused" in compiler(name)(text, (), 80, tmp_path)


def test_an_access_without_an_address_space_is_an_error(tmp_path):
    text = """extern "C" __global__ void planted(const float* x, float* y, int n) {
        __shared__ float s[64];
        s[threadIdx.x] = x[threadIdx.x];
        __syncthreads();
        const float* either = n > 3 ? x : s;
        for (int i = 0; i < n; ++i) y[i] = either[i];
    }"""
    assert compiler("nvrtc")(text, (), 90, tmp_path).startswith("planted: ld.f32 has no address space; keep")


def test_subnormal_numbers_are_zeros_as_in_cupy(tmp_path):
    """A kernel that is compiled without -ftz=true is another kernel than the one that will run."""
    said = []
    text = 'extern "C" __global__ void planted(float* x) { x[0] += x[1]; }'
    compiler("nvrtc")(text, (), 90, tmp_path, look=said.append)
    assert "add.ftz.f32" in said[0]
    assert "-ftz=true" in nvcc_command(tmp_path / "planted.cu", (), 90)


def test_every_source_and_kernel_is_declared_with_the_arguments_it_has():
    if not has_compiler():
        pytest.skip("g++ is not installed: the preprocessor expands the sources' macros")
    found = {variant: declared_in_source(*variant) for variant in VARIANTS}
    for kernel in Kernel.registry.values():
        declared = [(p.type, p.length is not None, p.name) for p in kernel.parameters]
        assert found[kernel.file, kernel.defines].get(kernel.name) == declared, kernel.name
        assert callable(kernel.plan)  # grid, block and lengths are expressions of these arguments
        assert callable(kernel.quick)
    assert set().union(*found.values()) == set(Kernel.registry), "a kernel that nobody can launch"


def test_every_source_is_used():
    files = {path.name: path.read_text("utf-8") for path in SOURCES.glob("*.cu")}
    included = {line.split('"')[1] for text in files.values() for line in text.splitlines() if line.startswith("#include")}
    assert files.keys() == {file for file, _ in VARIANTS} | included
