"""A game instead of a bound: what a GAN's players do, where mathematics can follow
==================================================================================

A VAE descends one function, and arrives. A GAN's two players descend two, and may go round in circles. Three games small enough to know
everything about: a point against a line (L. Mescheder, A. Geiger and S. Nowozin, 2018), a critic of two densities in one dimension
(I. Goodfellow et al., 2014, proposition 1), and eight modes on a ring (L. Metz et al., 2017).  ``python demos/gan_game.py --out figures``
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import stage
from matplotlib.figure import Figure
from tqdm import tqdm

import minivae as mv
from minivae import Stream, Tensor, inference, ops
from minivae.data import Batch
from minivae.distributions import Delta, StandardGaussian
from minivae.models import GAN
from minivae.models.networks import mlp
from minivae.objectives import Gan, trained
from minivae.plots.bars import PARTS
from minivae.plots.layout import FAINT, INK, SMALL, TEXT, TITLE, calm

asked = stage.options(__doc__)

# %%
# The Dirac-GAN. The data are the point 0, the generator is a point :math:`\theta`, the critic a slope, :math:`D(x) = \psi x`. The game's
# answer is plain: :math:`\theta = \psi = 0`. The players are modules and the losses those of the library: only the problem is small.


class Point(mv.Module):
    prior = StandardGaussian(1)

    def __init__(self, theta: float):
        self.theta = Tensor(np.array([[theta]]))

    def decode(self, z: Any) -> Delta:
        return Delta(ops.multiply(z, 0.0) + self.theta)

    def critic(self, rng: Stream, pack: int, spectral: bool) -> "Slope":
        return Slope()

    def move_average(self, decay: float) -> None:
        """It has none."""


class Slope(mv.Module):
    def __init__(self) -> None:
        self.psi = Tensor(np.zeros((1, 1)))

    def forward(self, x: Any) -> Tensor:
        return ops.matmul(x, self.psi)


@dataclass
class Game:
    """A vector field: where the players go from (theta, psi)."""

    objective: Gan

    def __call__(self, at: np.ndarray) -> np.ndarray:
        players = self.objective.players(Point(at[0]), Stream(0))
        players["critic"].psi.data[...] = at[1]
        losses, _ = self.objective.losses(players, Batch(np.zeros((1, 1))), Stream(0), trained(1, self.objective.turns()[0]))
        return -np.array([mv.gradients(losses[name], players[name].parameters())[0].item() for name in ("generator", "critic")])

    def eigenvalues(self, h: float = 1e-5) -> np.ndarray:
        """Of the field's Jacobian at the origin, by central differences."""
        return np.linalg.eigvals(np.array([(self(h * e) - self(-h * e)) / (2 * h) for e in np.eye(2)]).T)

    def course(self, start: tuple[float, float], steps: int, rate: float) -> np.ndarray:
        """(steps + 1, 2)"""
        at = [np.array(start)]
        for _ in range(steps):
            at.append(at[-1] + rate * self(at[-1]))
        return np.array(at)


games = {
    "minimax": Game(Gan("minimax", "none")),
    "non-saturating": Game(Gan("non_saturating", "none")),
    "non-saturating, R1": Game(Gan("non_saturating", "r1", penalty_weight=1.0, penalty_every=1)),
}
courses = {name: game.course((1.0, 0.0), 300, 0.1) for name, game in games.items()}
radius = {name: np.hypot(*course.T) for name, course in courses.items()}
for name, game in games.items():
    told = ", ".join(f"{v.real:+.3f} {v.imag:+.3f} i" for v in game.eigenvalues())
    print(f"{name:20s} eigenvalues {told}; distance from the answer after 300 steps of 0.1: {radius[name][-1]:.2g}")
# an eigenvalue that is double moves by the square root of the difference quotient's error, 1e-10
stage.claim(
    "without a penalty the eigenvalues are +-i/2: the players circle around the answer",
    all(np.allclose(np.sort_complex(games[name].eigenvalues()), [-0.5j, 0.5j], atol=2e-5) for name in list(games)[:2]),
)
stage.claim("with R1, gamma = 1, there is -1/2, twice", np.allclose(games["non-saturating, R1"].eigenvalues(), -0.5, atol=2e-5))
# a step multiplies theta^2 + psi^2 by 1 + h^2 sigmoid(psi theta)^2
stage.claim(f"minimax spirals out, with every step: from 1 to {radius['minimax'][-1]:.2f}", bool((np.diff(radius["minimax"]) > 0).all()))
# d/dt (theta^2 + psi^2) / 2 = -theta psi tanh(theta psi / 2): of fourth order, so that the distance falls as a power of t and not as e^-t
late = np.log(radius["non-saturating"][150] / radius["non-saturating"][300]) / np.log(2)
stage.claim(f"non-saturating comes in, but as t^-{late:.2f}: what is linear in it turns for ever", 0.2 < late < 0.7)
stage.claim(
    f"with R1 it is there, {radius['non-saturating, R1'][-1]:.0e}, about e^(-t/2) t", radius["non-saturating, R1"][-1] < 31 * np.exp(-15)
)

figure = Figure(figsize=(9, 3.3), layout="constrained", facecolor="white")
grid = np.stack(np.meshgrid(np.linspace(-2, 2, 13), np.linspace(-2, 2, 13)), axis=-1)
for ax, (name, game), colour in zip(figure.subplots(1, 3, sharey=True), games.items(), (PARTS[4], PARTS[0], PARTS[2]), strict=True):
    arrows = np.array([[game(at) for at in row] for row in grid])
    ax.quiver(grid[..., 0], grid[..., 1], arrows[..., 0], arrows[..., 1], color="0.75", width=0.004)
    ax.plot(*courses[name].T, color=colour, linewidth=1.2)
    ax.plot(*courses[name][0], "o", color=INK, markersize=4)
    ax.plot(0, 0, "+", color=INK, markersize=9)
    ax.set(xlim=(-2, 2), ylim=(-2, 2), aspect="equal")
    ax.set_xlabel("θ, the generator's", fontsize=TEXT, color=INK)
    calm(ax).set_title(name, fontsize=TITLE, color=INK)
figure.axes[0].set_ylabel("ψ, the critic's", fontsize=TEXT, color=INK)
stage.save(figure, asked.out / "dirac.png")

# %%
# The best critic. Whatever the generator makes, the loss :math:`E_p[\log(1 + e^{-D})] + E_q[\log(1 + e^{D})]` is least for
# :math:`D = \log p/q`, where it is :math:`2 \log 2 - 2\,\mathrm{JS}(p, q)`. A critic that is trained on samples, judged by integrals:

x = np.linspace(-12, 12, 4801)
width = x[1] - x[0]


def normal(mean: float, sd: float) -> np.ndarray:
    return np.exp(-(((x - mean) / sd) ** 2) / 2) / (sd * np.sqrt(2 * np.pi))


p, q = (normal(-1.5, 0.6) + normal(1.5, 0.6)) / 2, normal(0, 1.5)
best = np.log(p) - np.log(q)


def expected_loss(d: np.ndarray) -> float:
    return float(((p * np.logaddexp(0, -d) + q * np.logaddexp(0, d)) * width).sum())


rng, game = np.random.default_rng(asked.seed), Gan()
critic = mlp((1, 48, 48, 1), Stream(asked.seed), "tanh")
optimizer, steps = mv.Adam(critic.parameters(), 3e-3), stage.pick(asked, 1000, 4000, 20000)
for step in tqdm(range(steps), desc="critic", unit="step", leave=False, delay=2):
    optimizer.lr = 3e-3 * (1 - step / steps)
    real = (rng.choice([-1.5, 1.5], 256) + 0.6 * rng.normal(size=256)).astype(np.float32)[:, None]
    made = (1.5 * rng.normal(size=256)).astype(np.float32)[:, None]
    optimizer.step(mv.gradients(game.tells(critic(real), critic(made)), optimizer.params))
found = critic(x.astype(np.float32)[:, None]).data[:, 0].astype(np.float64)
middle = (p + q) / 2
divergence = float(((p * np.log(p / middle) + q * np.log(q / middle)) * width).sum() / 2)
excess = expected_loss(found) - expected_loss(best)
stage.claim(
    f"log p/q has the loss 2 log 2 - 2 JS = {2 * np.log(2) - 2 * divergence:.6f} nats",
    abs(expected_loss(best) - 2 * np.log(2) + 2 * divergence) < 1e-9,
)
# a critic that cannot tell pays 2 JS more than the best
stage.claim(
    f"the trained critic pays {excess:.4f} nats more, of {2 * divergence:.3f} that there were to gain", 0 <= excess < divergence / 5
)

figure = Figure(figsize=(7, 3.2), layout="constrained", facecolor="white")
ax = figure.add_subplot()
seen = abs(x) < 4
ax.plot(x[seen], best[seen], color=INK, linewidth=1.2, label="log p/q")
ax.plot(x[seen], found[seen], color=PARTS[4], linewidth=1.6, linestyle="--", label="the trained critic")
ax.fill_between(x[seen], 4 * p[seen] - 6, -6, color=PARTS[0], alpha=0.35, linewidth=0, label="p, the data")
ax.fill_between(x[seen], 4 * q[seen] - 6, -6, color=PARTS[2], alpha=0.35, linewidth=0, label="q, what is made")
ax.set(ylim=(-6, 3))
ax.set_xlabel("x", fontsize=TEXT, color=INK)
ax.set_ylabel("D(x)", fontsize=TEXT, color=INK)
ax.grid(color=FAINT, linewidth=0.7)
figure.legend(*ax.get_legend_handles_labels(), loc="outside right center", fontsize=SMALL, frameon=False)
calm(ax)
stage.save(figure, asked.out / "best_critic.png")

# %%
# Eight modes on a ring. As published, a GAN finds one of them, and jumps (L. Metz et al., 2017). A sample is good within three standard
# deviations of a mode. R1 keeps the critic flat where it cannot tell, so that no mode is left for long; that is not to say that samples are
# better for it: a flat critic says less about where exactly a mode is, and at some lengths of training the game without it is ahead in
# good samples.

SPREAD = 0.02
angles = 2 * np.pi * np.arange(8) / 8
centres = 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
ring = (centres[rng.integers(0, 8, 12800)] + SPREAD * rng.normal(size=(12800, 2))).astype(np.float32)
epochs, rows = stage.pick(asked, 8, 30, 60), {}
for name, objective in (
    ("no penalty", Gan(penalty="none", ema=0.99)),
    ("R1", Gan(penalty_weight=0.1, penalty_every=1, ema=0.99)),
):
    model = GAN((2,), Stream(asked.seed).split("weights"), latent=2, hidden=(64, 64))
    stage.train(model, ring, epochs, objective=objective, name=name, lr=1e-3, seed=asked.seed)
    made = inference.sample(model, Stream(asked.seed).split("samples"), 2500)
    distance = np.sqrt(((made[:, None] - centres) ** 2).sum(axis=-1))
    good = distance.min(axis=1) < 3 * SPREAD
    reached = np.bincount(distance.argmin(axis=1)[distance.min(axis=1) < 0.3], minlength=8)
    rows[name] = made, float(good.mean()), reached
    print(f"{name:10s} {int((reached > 25).sum())} modes with 1% of the samples nearby, {good.mean():.1%} good samples")
modes = {name: int((reached > 25).sum()) for name, (_, _, reached) in rows.items()}
stage.claim(f"with R1 {modes['R1']} of 8 modes", modes["R1"] >= stage.pick(asked, 5, 8, 8))
figure = Figure(figsize=(8, 3), layout="constrained", facecolor="white")
for ax, (name, made) in zip(figure.subplots(1, 3), [("data", ring[:2500]), *((name, row[0]) for name, row in rows.items())], strict=True):
    ax.scatter(*made.T, s=3, color=INK, alpha=0.3, linewidths=0)
    ax.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal", xticks=[], yticks=[])
    calm(ax).set_title(name, fontsize=TITLE, color=INK)
stage.save(figure, asked.out / "ring.png")
