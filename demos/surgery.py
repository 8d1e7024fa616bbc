"""ELBO surgery, and posterior collapse: on purpose, with its alarm, and mended
============================================================================

The KL term of a trained model is a sum of three parts (M. D. Hoffman and M. J. Johnson, "ELBO surgery", 2016; R. T. Q. Chen et al., 2018):

.. math:: \\frac1N \\sum_n \\mathrm{KL}(q(z \\mid x_n) \\,\\|\\, p(z)) = \\underbrace{I(n; z)}_{\\text{mutual information}}
          + \\underbrace{\\mathrm{KL}\\big(q(z) \\,\\|\\, \\textstyle\\prod_k q(z_k)\\big)}_{\\text{total correlation}}
          + \\underbrace{\\textstyle\\sum_k \\mathrm{KL}(q(z_k) \\,\\|\\, p(z_k))}_{\\text{dimension-wise KL}}

Only the first tells images apart.  As :math:`\\beta` grows it is squeezed out, latent by latent, until nothing is left: posterior collapse.
When that must happen can be computed from the pixels alone, before any training.  ``python demos/surgery.py --out figures``
"""

import math
from itertools import pairwise

import numpy as np
import stage
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from tqdm import tqdm

from minivae import VAE, Stream, Trainer, TrainingConfig, data, no_grad, plots
from minivae.evaluate import elbo_surgery
from minivae.models import activity
from minivae.objectives import Elbo, FreeBits, Objective
from minivae.plots.bars import PARTS
from minivae.plots.layout import FAINT, INK, SMALL, TEXT, TITLE, calm
from minivae.runs.collapse import SILENT, alarm, measure

asked = stage.options(__doc__)
digits = stage.digits(asked)
epochs = stage.pick(asked, 6, 20, 5)

# %%
# Where does collapse begin?  With the decoder at the mean image m, and q at the prior, let a weak code in: its mean A (x - m), the logits
# moved by W z.  To second order the loss changes by :math:`-\mathrm{tr}\,WAC + \frac12 \mathrm{tr}\,W'DW + \frac\beta2 \mathrm{tr}\,ACA'`
# with C the covariance of the pixels and D = diag(m (1 - m)).  The best W and A make it negative only if :math:`\beta` is below the largest
# eigenvalue of :math:`D^{-1/2} C D^{-1/2}`.  Above it, a decoder that has forgotten the code has no reason to ask for it again.
# (For a linear decoder with Gaussian noise: J. Lucas et al., "Don't blame the ELBO!", 2019.)

flat = digits.train_images.reshape(len(digits.train_images), -1) / np.float32(255)
mean = flat.mean(axis=0, dtype=np.float64)
seen = mean > 1e-3  # pixels that are black in nearly every image have no variance to explain
scaled = ((flat[:, seen] - mean[seen]) / np.sqrt(mean[seen] * (1 - mean[seen]))).astype(np.float64)
threshold = float(np.linalg.eigvalsh(scaled.T @ scaled / len(scaled))[-1])
ink = mean[(mean > 0) & (mean < 1)]
constant = -(ink * np.log(ink) + (1 - ink) * np.log(1 - ink)).sum()  # nats: the cross-entropy of the mean image
print(f"collapse is stable from beta = {threshold:.1f} on; a decoder that is told nothing pays {constant:.1f} nats at least")


# %%
# One training for each :math:`\beta`, and after each epoch what the training loop of the library looks at: the KL of each latent, and
# the alarm, which goes off when none has said a hundredth of a nat for three epochs.


def trained(name: str, objective: Objective) -> tuple[VAE, list[dict], int | None]:
    """The model, a line an epoch, and the epoch of the first alarm."""
    model = VAE(digits.image_shape, Stream(asked.seed).split("weights"), latent=10, hidden=(stage.pick(asked, 100, 200, 200),))
    trainer = Trainer(model, TrainingConfig(epochs=epochs, batch_size=stage.pick(asked, 64, 64, 128), seed=asked.seed), objective)
    lines, first = [], None
    for epoch in tqdm(range(epochs), desc=name, unit="epoch", leave=False, delay=2):
        lines.append(trainer.epoch(digits.train_images) | measure(model, digits.test_images, None, asked.seed))
        if (sentence := alarm(lines)) is not None:
            first = first or epoch + 1
            print(f"{name}, epoch {epoch + 1}: {sentence}")
    return model, lines, first


betas = [1.0, 4.0, round(threshold / 4), round(threshold / 2), round(2 * threshold)]
runs = {beta: trained(f"beta = {beta:g}", Elbo(beta)) for beta in betas}
low, high = betas[:3], betas[-1]
stage.claim(
    f"no alarm for beta = {', '.join(f'{beta:g}' for beta in low)}, a quarter of the threshold at most",
    all(runs[beta][2] is None for beta in low),
)
stage.claim(f"it goes off for beta = {high:g}, twice the threshold, in epoch {runs[high][2]}", runs[high][2] is not None)
paid = runs[high][1][-1]["reconstruction"]
# the codes that say nothing are still noise to the decoder, and Adam's steps move it about: a hundredth is left for that
stage.claim(f"which then pays {paid:.1f} nats, as if told nothing", 0.99 * constant < paid < 1.02 * constant)

# %%
# The surgery, on test images.  N images cannot give more than log N nats of mutual information: at small :math:`\beta` the estimate is at
# that ceiling, and what the code knows beyond it shows up as total correlation.  The parts sum to the KL by construction, whatever their
# errors; that it is the KL of the model is checked against the float32 kernels, which sum it latent by latent: each of its terms is rounded
# a few times, by 2^-24.

x = data.to_float(digits.test_images[: stage.pick(asked, 500, 500, 3000)])
ceiling = math.log(len(x))
print(f"{len(x)} test images: log N = {ceiling:.2f} nats\n beta      KL = information + correlation + dimensions   active latents")
cuts, uses, rounding, least = [], [], [], []
for beta in betas:
    model = runs[beta][0]
    with no_grad():
        q = model.encode(x)
    mu, logvar = q.mean.numpy().astype(np.float64), q.logvar.numpy().astype(np.float64)
    cut, use = elbo_surgery(mu, logvar, Stream(asked.seed).split("surgery"), 4 if len(x) <= 500 else 1), activity(model, x, Stream(0))
    cuts.append(cut)
    uses.append(use)
    parts = cut.mutual_information, cut.total_correlation, cut.dimension_kl.sum()
    print("{:5g} {:7.3f} = {:11.3f} + {:11.3f} + {:10.3f}   {}".format(beta, cut.kl, *parts, use.active.sum()))
    size = 0.5 * (mu**2 + np.exp(logvar) + abs(logvar) + 1).sum(axis=1).mean()
    rounding.append(abs(sum(parts) - use.kl.sum()) / size * 2**24)
    least.append((use.kl - 0.5 * mu.var(axis=0)).min())
stage.claim(f"the parts sum to the KL of the model: off by {max(rounding):.2f} roundings of float32 at most", max(rounding) < 16)
# sigma^2 - log sigma^2 - 1 >= 0, so that the KL of a latent is at least half the second moment of its mean
stage.claim(
    f"a latent's KL is at least half the variance of its mean, by {min(least):.5f} nats: if active, it has 0.005 nats", min(least) > -1e-6
)
noise = [5 * cut.mutual_information_error for cut in cuts]
information = [cut.mutual_information for cut in cuts]
stage.claim(
    f"the mutual information is between 0 and log N: {min(information):.3f} to {max(information):.3f}",
    all(-e <= i <= ceiling + e for i, e in zip(information, noise, strict=True)),
)
stage.claim("no part is negative", all(c.total_correlation > -5 * c.total_correlation_error for c in cuts))
stage.claim(
    "beta lowers the KL and the mutual information, and raises the reconstruction",
    all(a.kl > b.kl and a.mutual_information > b.mutual_information for a, b in pairwise(cuts))
    and all(runs[a][1][-1]["reconstruction"] < runs[b][1][-1]["reconstruction"] for a, b in pairwise(betas)),
)
silent = max(float(use.kl[~use.active].max(initial=0)) for use in uses)
stage.claim(
    f"latents that are not active have {silent:.3f} nats at most, and those of beta = 1 are all active",
    silent < 0.05 and bool(uses[0].active.all()),
)

# %%
# Mutual information, the code's use, is what :math:`\beta` spares longest.  Below, the latents of each model by their KL: full bars are
# active units, whose mean varies over the images by more than 0.01.

columns = {
    "mutual information": np.array(information),
    "total correlation": np.array([c.total_correlation for c in cuts]),
    "dimension-wise KL": np.array([c.dimension_kl.sum() for c in cuts]),
}
bars = plots.stacked_bars([f"β = {beta:g}" for beta in betas], columns, f"The parts of the KL; dotted: log N = {ceiling:.2f}")
bars.axes[0].axhline(ceiling, color=INK, linewidth=0.9, linestyle=":")
stage.save(bars, asked.out / "surgery.png")

figure = Figure(figsize=(10, 2.7), layout="constrained", facecolor="white")
for ax, beta, use in zip(figure.subplots(1, len(betas)), betas, uses, strict=True):
    plots.draw_latent_kl(ax, use.kl, use.active).set_title(f"β = {beta:g}: {use.active.sum()} active", fontsize=TITLE, color=INK)
    ax.set_xlabel("latent", fontsize=TEXT, color=INK)
    ax.tick_params(labelsize=SMALL)
figure.axes[0].set_ylabel("KL in nats", fontsize=TEXT, color=INK)
stage.save(figure, asked.out / "surgery_latents.png")

# %%
# Mending.  The recipe most often given is to let :math:`\beta` rise slowly (KL warm-up, S. R. Bowman et al., 2016).  It mends a collapse
# that is an accident of training: at three quarters of the threshold a code pays, but while the decoder cannot use it yet the KL is a
# certain loss, and a long silence comes first.  It does not mend one that the objective itself wants: at twice the threshold it only
# delays.  There the objective must change: free bits (D. P. Kingma et al., 2016) let each latent have half a nat for nothing.

below, warm = round(0.75 * threshold), stage.pick(asked, 3, 10, 3)
cases = {
    f"β = {below:g}": trained(f"beta = {below:g}", Elbo(below)),
    f"β = {below:g}, warm-up": trained(f"beta = {below:g} with warm-up", Elbo(below, kl_warmup=warm)),
    f"β = {high:g}": runs[high],
    f"β = {high:g}, warm-up": trained(f"beta = {high:g} with warm-up", Elbo(high, kl_warmup=warm)),
    f"β = {high:g}, free bits": trained(f"beta = {high:g} with free bits", FreeBits(high, free_bits=0.5)),
}
loudest = {name: np.array([max(line["latent_kl"]) for line in lines]) for name, (_, lines, _) in cases.items()}
total = {name: sum(lines[-1]["latent_kl"]) for name, (_, lines, _) in cases.items()}
for name, (_, lines, first) in cases.items():
    after = "no alarm" if first is None else f"alarm in epoch {first}"
    print(f"{name:18s} KL {total[name]:.3f}, reconstruction {lines[-1]['reconstruction']:.1f}, {after}")
plain, warmed, dead, delayed, free = cases
quiet = {name: values.min() for name, values in loudest.items()}
stage.claim(
    f"below the threshold warm-up mends: no alarm, and the loudest latent has never less than {quiet[warmed]:.3f} nats, "
    f"where without it has {quiet[plain]:.3f}",
    cases[warmed][2] is None and quiet[warmed] > stage.pick(asked, 1, 2, 2) * quiet[plain],
)
stage.claim(
    f"above it warm-up delays: {loudest[delayed][0]:.2f} nats in the first epoch, {loudest[delayed][-1]:.3f} in the last",
    loudest[delayed][0] > 10 * loudest[dead][0] and loudest[delayed][-1] < loudest[delayed][0] / 5,
)
saved = cases[dead][1][-1]["reconstruction"] - cases[free][1][-1]["reconstruction"]
stage.claim(
    f"free bits mend: no alarm, {total[free]:.2f} of the 5 free nats are used, and the reconstruction is {saved:.1f} nats better",
    cases[free][2] is None and 2 < total[free] < 6 and saved > 10,
)

figure = Figure(figsize=(8, 3.6), layout="constrained", facecolor="white")
ax = figure.add_subplot()
for (name, values), colour, style in zip(loudest.items(), [PARTS[i] for i in (0, 0, 4, 4, 2)], ("--", "-", "--", ":", "-"), strict=True):
    ax.plot(np.arange(1, epochs + 1), np.maximum(values, 1e-4), style, color=colour, linewidth=1.7, label=name)
    if (first := cases[name][2]) is not None:
        ax.plot(first, max(values[first - 1], 1e-4), "o", color=colour, markersize=8)
ax.axhline(SILENT, color=INK, linewidth=0.8)
ax.annotate("the alarm's limit; dots: it goes off", (epochs, SILENT), (0, 3), textcoords="offset points", ha="right", fontsize=SMALL)
ax.set(yscale="log", xlim=(1, epochs))
ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
ax.grid(color=FAINT, linewidth=0.7)
ax.set_xlabel("epoch", fontsize=TEXT, color=INK)
ax.set_ylabel("KL of the loudest latent in nats", fontsize=TEXT, color=INK)
ax.set_title(f"Collapse and its mending; the threshold is β = {threshold:.0f}", fontsize=TITLE, color=INK)
figure.legend(*ax.get_legend_handles_labels(), loc="outside right center", fontsize=SMALL, frameon=False)
calm(ax)
stage.save(figure, asked.out / "collapse.png")
