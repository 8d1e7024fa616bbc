"""What every test may count on: hypothesis profiles, the real MNIST, and a reason where the machine has no GPU."""

import functools
import os
from collections.abc import Iterator
from pathlib import Path

# before NumPy and numba are loaded.  The processes of the tests share the cores: a thread that spins until there is work takes it from
# another process, and none starts one more that compiles ahead
os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "MINIVAE_COMPILES_AHEAD": "1"}
os.environ["MPLBACKEND"] = "Agg"  # a figure is an array here: no test may open a window

import numba
import pytest
from hypothesis import HealthCheck, settings

from minivae.backend import cpu_backend, gpu, use_backend
from minivae.errors import UsageError

# "ci" draws the same examples every time; a deadline, or a limit on drawing, would fail on a slow machine and tell nothing
settings.register_profile("ci", max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PROFILE = os.environ.get("MINIVAE_HYPOTHESIS", "ci")
settings.load_profile(PROFILE)

DATA = Path(os.environ.get("MINIVAE_DATA") or Path(__file__).parents[2] / "shared" / "data").expanduser()


@pytest.fixture(scope="session")
def real_mnist() -> Path:
    """The folder to hand to `load("mnist", ...)`: $MINIVAE_DATA, or shared/data beside the repository."""
    if not [file for place in (DATA, DATA / "mnist") for file in place.glob("train-images*")]:
        pytest.skip(f"MNIST is not in {DATA}; set MINIVAE_DATA to the folder that holds it")
    return DATA


@pytest.fixture(autouse=True)
def backend_as_it_was() -> Iterator[None]:
    """A command or a benchmark chooses a backend for its process: in the tests' process it would be that of all tests after it."""
    with use_backend(cpu_backend()):
        yield


@functools.cache
def why_no_gpu() -> str:
    """The reason, or nothing where a CUDA device answers."""
    try:
        gpu()
    except UsageError as error:
        return str(error)
    return ""


# `pytest -m "proof and not slow"`: less than three minutes on two cores
PROOF = (
    "ops/",
    "proof/",
    "test_cli_proof",
    "test_distributions",
    "test_gradcheck",
    "test_mutation",
    "test_objectives",
    "test_quadrature",
    "test_bugs",
)


FIRST = ("test_demos", "kernels/test_gemm", "test_docs", "test_readme", "training/")  # what takes long: else one process waits for it

if "PYTEST_XDIST_WORKER" in os.environ:
    # several processes share the cores: threads of theirs would only wait for each other.  A test that is about threads asks for them
    numba.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(Path(__file__).parent).as_posix()
        return next((i for i, start in enumerate(FIRST) if path.startswith(start)), len(FIRST))

    items.sort(key=place)  # stable: what is not named stays in its order
    for item in items:
        if item.path.relative_to(Path(__file__).parent).as_posix().startswith(PROOF):
            item.add_marker("proof")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and why_no_gpu():
        pytest.skip(why_no_gpu())
