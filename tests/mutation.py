"""Mutation: would the tests notice?  Every formula of the library is spoilt in every way that `tests/mutants.py` knows, one at a time.

    python tests/mutation.py [--jobs N] [--fast] [--quick] [NAME ...]

    --jobs N   so many processes; --fast takes every 12th mutant, --quick asks the laws alone; NAMEs are parts of names
               such as distributions.flows.Planar.sample

A mutant's code takes the original's place in a process of its own, made by fork.  Of an op the laws of tests/ops judge first: values by
NumPy, SciPy and integrals, gradients by complex steps.  What they let live is judged by the test files of its family, as they are, with the
examples of the usual runs.  Prints the survivors and the score.
"""

import argparse
import contextlib
import importlib
import io
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # matrices are small here, and processes share the machine
sys.path.insert(0, str(Path(__file__).parents[1]))  # tests is a package beside minivae

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings

from minivae import use_backend
from tests.mutants import Mutant, mutants, of_ops

DISTRIBUTIONS = [f"tests/test_distributions{part}.py" for part in ("_gradients", "", "_kl", "_closed_forms", "_contract", "_samples")]
FAMILIES = {
    "arithmetic": ["tests/ops/test_faults.py"],
    "conv": ["tests/ops/test_conv.py"],
    "recurrent": ["tests/ops/test_recurrent.py"],
    "normalization": ["tests/test_nn.py"],
    "dropout": ["tests/test_nn.py"],
    "densities": DISTRIBUTIONS,
    "engine": ["tests/engine/test_engine.py"],
    "distributions": DISTRIBUTIONS,
    "objectives": ["tests/test_objectives.py", "tests/proof/test_batches.py", "tests/proof/test_iwae_bounds.py", "tests/proof/test_gap.py"],
    "likelihood": ["tests/evaluate/test_likelihood.py", "tests/evaluate/test_bounds.py"],
    "surgery": ["tests/evaluate/test_surgery.py"],
}
OF_FILE = {  # of distributions and objectives: what judges in the place of the family, where a file has tests of its own
    "levels": ["tests/test_distributions_levels.py", "tests/gpu/test_branches.py"],
    "beta_binomial": ["tests/test_distributions_levels.py"],
    "discretized_logistic": ["tests/test_distributions_levels.py"],
    "noisy_levels": ["tests/rivals/test_diffusion.py", "tests/rivals/test_pixels.py"],
    "flows": ["tests/models/test_flows.py"],
    "mixture": ["tests/models/test_vamp.py", "tests/models/test_mixture_cvae.py"],
    "bound": ["tests/test_objectives.py", "tests/proof/test_iwae_bounds.py", "tests/gpu/test_bound.py"],
    "classify": ["tests/models/test_pretrained.py"],
    "denoising": ["tests/test_denoising_objective.py"],
    "diffusion": ["tests/rivals/test_diffusion.py"],
    "factor": ["tests/test_factor_objective.py", "tests/test_objectives.py", "tests/gpu/test_branches.py"],
    "gan": ["tests/rivals/test_gan.py", "tests/rivals/test_games.py"],
    "m2": ["tests/models/test_m2.py"],
    "progressive": ["tests/models/test_residual_gru.py"],
    "rate_distortion": ["tests/models/test_codec.py"],
    "vaegan": ["tests/rivals/test_vaegan.py"],
    "vq": ["tests/models/test_vq.py"],
    "objectives.base": ["tests/test_objectives_base.py", "tests/test_objectives.py"],
}
LAWS = ("is_the_limit_of_differences", "of_0d_and_empty_inputs")  # of the table, beside those that judge first
REFERENCES = ["-k", "not numba"]  # mutants are of references; loading compiled kernels in every process would take most of the time
SECONDS = 200  # of a processor; no family's tests take half of it, so that a mutant that does is stuck, and counts as noticed
NOTICED, LIVES = 0, 1  # exit codes

usual = settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
settings.register_profile("mutation", usual, phases=[Phase.explicit, Phase.generate])  # no shrinking: that it fails is enough

SPREAD = "xp(mean).exp(logvar[chosen] / 2) * noise"
ROW, ROW_SPREAD = "mean[rows, chosen]", "xp(mean).exp(logvar[rows, chosen] / 2) * rng.normal((*lead(n), N, K), like=mean)"
ALL_ZERO = "stop_gradient(xp(data).zeros(data.shape[:data.ndim - self.event_ndim], data.real.dtype))"
NEAREST, NEAR = "nearest[..., None]", "module.arange(-near, near + 1, dtype=mean.dtype)"
NOTHING = "event_sum(ops.multiply(q.mean, 0.0), event_ndim)"
THERE = "there and all((isinstance(v, Tensor) for v in values[:2]))"
KL_0 = "ops.gaussian_kl_standard(zeros, zeros, event_ndim)"
FIRST = "data_of(getattr(self, self.parameters[0]))"
ROWS = "rows.reshape(*a.shape[:-1], b.shape[-1])"
ZEROS = "np.zeros(self.known_shape('mean'), np.float32)"
EQUIVALENT = {  # (function, change): why no test can notice
    ("standard_standard", f"{KL_0} -> -{KL_0}"): "-0 equals 0",
    ("StandardGaussian.mean", f"{ZEROS} -> -{ZEROS}"): "-0 equals 0",
    ("beta_binomial_log_prob_reference", "k * 0.0 -> 0.0"): "a zero of k's kind matters on a GPU alone",
    ("Levels.like", f"{FIRST} -> -{FIRST}"): "its kind is asked for, not its numbers",
    ("one_kernel_serves", f"{THERE} -> -({THERE})"): "-True is as true as True",
    ("Coupling.halves", "K - K // 2 -> -(K // 2)"): "the same place, counted from the end",
    ("GaussianMixture.sample", f"mean[chosen] + {SPREAD} -> mean[chosen] - {SPREAD}"): "the noise is as likely as its negative",
    ("WeightedMixture.sample", f"{ROW} + {ROW_SPREAD} -> {ROW} - {ROW_SPREAD}"): "the noise is as likely as its negative",
    ("spread", "u + module.arange(n, dtype=u.dtype) / n -> u - module.arange(n, dtype=u.dtype) / n"): "as even, the other way round",
    ("zeros", "xp(t).zeros_like(t) -> -xp(t).zeros_like(t)"): "-0 equals 0",
    ("features_and_score", "h -> -h"): "only squared differences of the features are used",
    ("Flat.log_prob", f"{ALL_ZERO} -> -{ALL_ZERO}"): "-0 equals 0",
    ("around", f"{NEAREST} + {NEAR} -> {NEAREST} - {NEAR}"): "the same levels, the other way round",
    ("delta_flat", f"{NOTHING} -> -{NOTHING}"): "-0 equals 0",
    ("product", f"{ROWS} -> -{ROWS}"): "runs on a GPU alone, where tests/gpu/test_table.py judges the op",
}


def full_name(mutant: Mutant) -> str:
    """distributions.flows.Planar.sample"""
    file = mutant.function.__module__.rpartition(".")[2]
    return ".".join(dict.fromkeys([mutant.module, file])) + f".{mutant.name}"


@contextlib.contextmanager
def in_place(mutant: Mutant) -> Iterator[None]:
    original = mutant.function.__code__
    mutant.function.__code__ = mutant.code
    try:
        yield
    finally:
        mutant.function.__code__ = original


def laws(mutant: Mutant) -> Iterator[Callable[[], object]]:
    """The quick judges, of the ops that the function is part of."""
    from tests.ops import test_judges, test_table

    for name in of_ops().get(mutant.function, []):
        if name in test_judges.JUDGES:
            yield lambda name=name: test_judges.test_values(name)
        yield lambda name=name: test_table.test_gradient_is_the_complex_step(name)


def files(mutant: Mutant) -> Iterator[list[str]]:
    """What judges after the laws: arguments for pytest, of one run after another."""
    file = mutant.function.__module__.rpartition(".")[2]
    own_files = OF_FILE.get(f"{mutant.module}.{file}", OF_FILE.get(file))
    if mutant.module in ("distributions", "objectives") and own_files:
        yield [*own_files, *REFERENCES]
        return
    family = FAMILIES.get(mutant.module, [])
    own = of_ops().get(mutant.function, [])
    if own:
        table = [f"tests/ops/test_table.py::test_gradient_{law}[{name}]" for name in own for law in LAWS]
        yield ["tests/ops/test_values.py", *table, *REFERENCES]
    if mutant.module == "distributions":  # "ContinuousBernoulli.sample": samples first, and what has continuous in its name
        first, last = ((-1, None), (0, -1)) if mutant.name.endswith("sample") else ((0, -1), (-1, None))
        kind = re.match("[A-Za-z][a-z]*", mutant.name)[0].lower()  # type: ignore[index]
        yield [*family[slice(*first)], "-k", kind]
        yield [*family[slice(*last)], "-k", kind]
    if family:
        yield [*family, *REFERENCES]


def noticed_by_laws(mutant: Mutant) -> bool:
    try:
        with in_place(mutant), np.errstate(all="ignore"), use_backend("numpy"):
            for law in laws(mutant):
                law()
    except Exception:  # whatever a law or an op raises has been noticed
        return True
    return False


def noticed_by_files(mutant: Mutant) -> bool:
    always = ["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "-o", "addopts=-m 'not slow'"]  # in this process, not in several
    with in_place(mutant), use_backend("numpy"), contextlib.redirect_stdout(io.StringIO()):
        codes = (pytest.main([*always, *arguments]) for arguments in files(mutant))
        return any(code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) for code in codes)


def noticed(mutant: Mutant, quick: bool = False) -> bool:
    """Whether a test fails on it."""
    return noticed_by_laws(mutant) or (not quick and noticed_by_files(mutant))


def verdicts(chosen: list[Mutant], jobs: int, quick: bool) -> Iterator[tuple[Mutant, int]]:
    """Each mutant, in the order in which they are done, with what its process exited with: NOTICED, LIVES, or why it came to no end."""
    running: dict[int, Mutant] = {}
    pending = chosen[::-1]
    while pending or running:
        while pending and len(running) < jobs:
            mutant = pending.pop()
            process = os.fork()
            if not process:
                resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
                os._exit(NOTICED if noticed(mutant, quick) else LIVES)
            running[process] = mutant
        process, status = os.wait()
        yield running.pop(process), os.waitstatus_to_exitcode(status)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, help="so many processes")
    parser.add_argument("--fast", action="store_true", help="every 12th mutant")
    parser.add_argument("--quick", action="store_true", help="the laws alone: no test files, and nothing but ops")
    parser.add_argument("names", metavar="NAME", nargs="*", help="only functions whose name holds one of these")
    options = parser.parse_args()
    os.chdir(Path(__file__).parents[1])
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # hypothesis's plugin wants to be loaded before hypothesis
    os.environ["MINIVAE_HYPOTHESIS"] = "mutation"  # conftest.py loads it
    settings.load_profile("mutation")
    for file in [
        "tests/ops/test_judges.py",
        "tests/ops/test_table.py",
        "tests/ops/test_values.py",
        *(file for files in (*FAMILIES.values(), *OF_FILE.values()) for file in files),
    ]:
        importlib.import_module(file.removesuffix(".py").replace("/", "."))  # here, so that no fork has to
    everything = [m for m in mutants() if not options.names or any(name in full_name(m) for name in options.names)]
    everything = [m for m in everything if m.function in of_ops()] if options.quick else everything
    everything = everything[::12] if options.fast else everything
    equivalent = [m for m in everything if (m.name, m.change) in EQUIVALENT]
    chosen = [m for m in everything if (m.name, m.change) not in EQUIVALENT]
    start = time.time()
    sound = {m.module: Mutant(m.module, m.function, m.function.__code__, 0, "no change") for m in chosen}
    for original, status in verdicts(list(sound.values()), options.jobs, options.quick):
        if status != LIVES:
            print(f"{original.module}: the tests fail as it is ({status}); there is nothing to learn from mutants")
            return 2
    survivors: list[Mutant] = []
    for i, (mutant, status) in enumerate(verdicts(chosen, options.jobs, options.quick), 1):
        if status == LIVES:
            survivors.append(mutant)
            print(f"survives: {mutant}", flush=True)
        elif status != NOTICED:
            print(f"came to no end ({signal.Signals(-status).name if status < 0 else status}), noticed: {mutant}", flush=True)
        if i % 100 == 0:
            print(f"{i} of {len(chosen)} after {time.time() - start:.0f} s", flush=True)
    for mutant in equivalent:
        print(f"equivalent: {mutant}: {EQUIVALENT[mutant.name, mutant.change]}")
    killed, seconds = len(chosen) - len(survivors), time.time() - start
    print(f"killed {killed} of {len(chosen)} mutants in {seconds:.0f} s; {len(equivalent)} more are equivalent")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main())
