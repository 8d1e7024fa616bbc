"""minivae info: versions, backends, devices and folders."""

import argparse
import platform
from importlib.metadata import PackageNotFoundError, version

from ..backend import gpu
from ..data import cache_folder, load
from ..errors import MinivaeError, UsageError
from ..version import VERSION


def info_command(options: argparse.Namespace, device: str | None) -> None:
    import llvmlite.binding
    import numba

    print(f"minivae {VERSION}, Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in ("numpy", "numba", "matplotlib", "tqdm", "pillow", "mlxtend", "cupy-cuda12x", "cupy-cuda13x"):
        try:
            print(f"  {package:14s}{version(package)}")
        except PackageNotFoundError:
            print(f"  {package:14s}not installed")
    print("backends")
    print("  numpy         references, any dtype")
    print(f"  numba         float32 kernels for {llvmlite.binding.get_host_cpu_name()}, {numba.get_num_threads()} threads")
    try:
        cupy = gpu()
        for i in range(cupy.cuda.runtime.getDeviceCount()):
            properties = cupy.cuda.runtime.getDeviceProperties(i)
            print(f"  cupy          {properties['name'].decode()}, {properties['totalGlobalMem'] / 2**30:.0f} GiB")
    except UsageError as error:
        print(f"  cupy          {error}")
    print("folders")
    cache = cache_folder()
    size = sum(f.stat().st_size for f in cache.rglob("*") if f.is_file()) if cache.is_dir() else 0
    print(f"  cache         {cache} ({size / 2**20:.1f} MiB; set MINIVAE_CACHE to move it)")
    for name in ("mnist", "fashion-mnist"):
        try:
            load(name, download=False, progress=False)
            print(f"  {name:14s}found")
        except MinivaeError:
            print(f"  {name:14s}not found; the first training on it downloads it")
