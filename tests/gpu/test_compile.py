"""Every CUDA source is compiled to machine code for three generations of GPUs, a warning or a spilled register being an error."""

import ctypes
import importlib.util
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest

import minivae.kernels.gpu.step  # noqa: F401  its kernels are declared when it is loaded
from minivae.kernels.gpu.launcher import SOURCES, Kernel, source

from .host.device import declared_in_source, has_compiler

VARIANTS = sorted({(k.file, k.defines) for k in Kernel.registry.values()})
ARCHITECTURES = (80, 90, 100)  # A100, H100 and H200, B200


def by_nvcc(text, defines, architecture, folder):
    path = folder / f"{abs(hash((text, defines)))}-{architecture}.cu"
    path.write_text(text)
    strict = ["-Werror=all-warnings", "-Xptxas", "--warning-as-error,--warn-on-spills"]
    command = ["nvcc", "-std=c++17", *strict, *(f"-D{name}" for name in defines), f"-arch=sm_{architecture}", "-cubin"]
    done = subprocess.run([*command, str(path), "-o", str(path.with_suffix(".cubin"))], capture_output=True, text=True, timeout=300)
    return done.stderr + done.stdout if done.returncode else ""


@cache
def nvrtc():
    """The compiler of the wheel nvidia-cuda-nvrtc, or None."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob("*/lib/libnvrtc.so.*")):
            return ctypes.CDLL(str(path))
    return None


def by_nvrtc(text, defines, architecture, _):
    library, program, size = nvrtc(), ctypes.c_void_p(), ctypes.c_size_t()
    assert library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None) == 0
    options = [
        "--std=c++17",
        f"--gpu-architecture=sm_{architecture}",
        "--ptxas-options=--warn-on-spills",
        *(f"-D{name}" for name in defines),
    ]
    failed = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*[o.encode() for o in options]))
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return log.value.decode() or ("it failed, and says nothing" if failed else "")


COMPILERS = {"nvcc": by_nvcc, "nvrtc": by_nvrtc}


def compiler(name):
    if name == "nvcc" and shutil.which("nvcc") is None:
        pytest.skip("nvcc is not installed")
    if name == "nvrtc" and nvrtc() is None:
        pytest.skip("the wheel nvidia-cuda-nvrtc is not installed")
    return COMPILERS[name]


@pytest.fixture(scope="module")
def complaints(tmp_path_factory):
    """What a compiler says about each (file, defines, architecture): all compiled at once, two at a time."""

    @cache
    def all_of(name):
        compile, folder = compiler(name), tmp_path_factory.mktemp(name)
        both = shutil.which("nvcc") is not None and nvrtc() is not None  # each does what the other leaves
        architectures = ARCHITECTURES if not both else (90,) if name == "nvrtc" else (80, 100)
        jobs = [(file, defines, architecture) for file, defines in VARIANTS for architecture in architectures]
        with ThreadPoolExecutor(2) as pool:
            texts = pool.map(lambda job: compile(source(job[0]), job[1], job[2], folder), jobs)
            return dict(zip(jobs, texts, strict=True))

    return all_of


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in COMPILERS])  # each compiles once
@pytest.mark.parametrize(("file", "defines"), VARIANTS)
def test_compiles_without_a_warning(complaints, name, file, defines):
    said = {job[2]: text for job, text in complaints(name).items() if job[:2] == (file, defines)}
    assert said
    assert not any(said.values()), said


@pytest.mark.parametrize("name", COMPILERS)
def test_a_warning_is_an_error(name, tmp_path):
    text = 'extern "C" __global__ void planted(float* x) { int unused; x[0] = 1; }'
    assert "unused" in compiler(name)(text, (), 80, tmp_path)


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
