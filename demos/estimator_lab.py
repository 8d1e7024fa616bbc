"""Five estimators of one gradient: which are unbiased, how much they scatter, and what more samples do to them.

    python demos/estimator_lab.py --out figures

A linear decoder with Gaussian noise, whose posterior is known, and an encoder that misses it by as much as we like.  Every number that has
an integral is an integral.  Writes estimator_variance.png and estimator_snr.png; claims that do not hold end the program with a sentence.
"""

import math
from functools import partial

import numpy as np
import stage
from matplotlib.figure import Figure

from minivae import Stream, plots
from minivae.evaluate.estimators import (
    LinearGaussian,
    closed_form_kl,
    doubly_reparameterized,
    moments,
    reparameterized,
    score_function,
    signal_to_noise,
    sticking_the_landing,
)

MODEL = LinearGaussian(np.array([[1.0, 0.5, -0.3]]), np.array([0.1, -0.2, 0.3]), 0.7)
X = np.array([[1.0, 0.3, -1.0]])
POSTERIOR_MEAN, POSTERIOR_VARIANCE = (a.reshape(1) for a in MODEL.posterior(X[0]))
BASELINE = -4.0  # near the ELBO
ESTIMATORS = {
    "score function": score_function,
    "score function, baseline": partial(score_function, baseline=BASELINE),
    "reparameterized": reparameterized,
    "closed-form KL": closed_form_kl,
    "sticking the landing": sticking_the_landing,
    "doubly reparameterized": doubly_reparameterized,
}
NODES = {1: 60, 2: 40}


def encoder(mismatch: float) -> tuple[np.ndarray, np.ndarray]:
    """mean and logvar of q: off by `mismatch` posterior standard deviations, and log sigma by as much."""
    return POSTERIOR_MEAN + mismatch * np.sqrt(POSTERIOR_VARIANCE), np.log(POSTERIOR_VARIANCE) + 2 * mismatch


def biases(mismatch: float, samples: int) -> dict[str, float]:
    """The largest |E g - gradient of L_k| over mean and logvar.  E g is an integral; so is the gradient of L_2, and that of the ELBO is the
    derivative of -KL(q || posterior), a closed form."""
    mean, logvar = encoder(mismatch)
    of = {name: moments(f, MODEL, X, mean, logvar, samples, NODES[samples]).mean for name, f in ESTIMATORS.items()}
    ratio = np.exp(logvar) / POSTERIOR_VARIANCE
    exact = [*(POSTERIOR_MEAN - mean) / POSTERIOR_VARIANCE, *(1 - ratio) / 2] if samples == 1 else of["reparameterized"]
    return {name: float(np.abs(found - exact).max()) for name, found in of.items()}


def variances(mismatches: np.ndarray, samples: int) -> dict[str, np.ndarray]:
    """Variance of the mean's and the logvar's estimate together, by quadrature; the unbiased ones for this bound."""
    leave_out = {"sticking the landing"} if samples == 1 else {"closed-form KL", "sticking the landing"}
    found = {}
    for name, f in ESTIMATORS.items():
        if name not in leave_out:
            each = [moments(f, MODEL, X, *encoder(d), samples, NODES[samples]).variance.sum() for d in mismatches]
            found[name + "\n= sticking the landing" if name == "doubly reparameterized" and samples == 1 else name] = np.array(each)
    return found


def variance_figure(mismatches: np.ndarray) -> Figure:
    panels = {"one sample: the ELBO": variances(mismatches, 1), "two samples: $L_2$": variances(mismatches, 2)}
    return plots.estimator_variance(mismatches, panels)


def signal_curves(samples: np.ndarray, repetitions: int, blocks: int, rng: Stream) -> dict[str, np.ndarray]:
    """Independent blocks of signal-to-noise ratios.     {name: (blocks, len(samples))}"""
    runs = [signal_to_noise(MODEL, X, *encoder(0.3), samples.tolist(), repetitions, rng) for _ in range(blocks)]
    return {name: np.array([run[name] for run in runs]) for name in runs[0]}


def slope(samples: np.ndarray, curve: np.ndarray) -> tuple[float, float]:
    """Of log SNR over log k where k >= 16, and its standard error over the blocks.     curve (blocks, len(samples))"""
    far = samples >= 16
    each = np.polyfit(np.log(samples[far]), np.log(curve[:, far]).T, 1)[0]
    return float(each.mean()), float(each.std(ddof=1) / math.sqrt(len(each)))


def main() -> None:
    options = stage.options(__doc__)
    for k in (1, 2):
        print(f"bias at k = {k}:", ", ".join(f"{name} {b:.0e}" for name, b in biases(0.3, k).items()))
    one, two = biases(0.3, 1), biases(0.3, 2)
    stage.claim("all six are unbiased for the ELBO", max(one.values()) < 1e-10)
    only_for_one = ("closed-form KL", "sticking the landing")
    stage.claim("for two samples the others are, by quadrature", max(b for name, b in two.items() if name not in only_for_one) < 1e-7)
    stage.claim("and sticking the landing is not", two["sticking the landing"] > 0.01)

    landed = moments(sticking_the_landing, MODEL, X, *encoder(0.0)).variance.max()
    stage.claim("where q is the posterior, sticking the landing has no variance", landed < 1e-25)
    mismatches = np.geomspace(0.01, 1.0, 5 if options.tiny else 15)
    variance = variances(mismatches, 1)
    near = {name: v[0] for name, v in variance.items()}
    stage.claim(
        "near it the reparameterized gradient still scatters, 1,000 times as much", near["reparameterized"] > 1e3 * min(near.values())
    )
    stage.claim("and the score function more than that", near["score function"] > near["reparameterized"])
    stage.save(variance_figure(mismatches), options.out / "estimator_variance.png")

    samples = np.array([1, 4, 16, 64, 256] if options.tiny else [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024])
    repetitions = 100 if options.tiny else 2000 if options.full else 200
    curves = signal_curves(samples, repetitions, 10, Stream(options.seed))
    laws = {"encoder, reparameterized": -0.5, "encoder, doubly reparameterized": 0.5, "decoder": 0.5}
    for name, law in laws.items():
        found, error = slope(samples, curves[name])
        # 5 standard errors, and 0.05 for the terms of order k^-3/2 that the law, an asymptote, leaves out past k = 16
        stage.claim(f"SNR of {name}: slope {found:.3f} ± {error:.3f}, the law is {law:+g}", abs(found - law) < 5 * error + 0.05)
    stage.save(plots.signal_to_noise(samples, curves), options.out / "estimator_snr.png")


if __name__ == "__main__":
    main()
