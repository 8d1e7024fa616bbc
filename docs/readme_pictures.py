"""The pictures at the top of README.md: `python docs/readme_pictures.py`, with MNIST at hand (MINIVAE_DATA, the cache or a mirror).

A map of the digits and draws from a model of 20 latents, both trained here, in two minutes; and the table of docs/performance.md as a plot.
"""

import re
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import minivae as mv

HERE = Path(__file__).resolve().parent
PICTURES = HERE / "pictures"
# O. Wong's and Okabe and Ito's colours, told apart by the colour-blind, and two grays
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C6D1F", "#000000", "#999999", "#6A3D9A"]
INK = "#222222"


def trained(latent: int, epochs: int) -> tuple[mv.VAE, mv.data.Dataset]:
    data = mv.data.load("mnist")
    model = mv.VAE(data.image_shape, mv.Stream(0), latent=latent, hidden=[400])
    mv.fit(model, data, epochs=epochs, batch_size=128, lr=1e-3)
    return model, data


def latent_map() -> Figure:
    """Where the digits lie in two latents, and what the decoder makes of the places between."""
    model, data = trained(2, 20)
    codes = mv.inference.encode_mean(model, data.test_images[:4000])
    labels = data.test_labels[:4000]
    figure = Figure(figsize=(9, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for digit in range(10):
        left.scatter(*codes[labels == digit].T, s=5, color=COLOURS[digit], alpha=0.6, linewidths=0, label=str(digit))
    left.legend(markerscale=4, ncols=2, loc="upper right", fontsize=9, handletextpad=0.1, columnspacing=0.6, framealpha=0.9)
    left.set(xlabel="$z_1$", ylabel="$z_2$", title="4,000 test digits, encoded", xlim=(-4, 4), ylim=(-4, 4), aspect="equal")
    z = np.linspace(-2.2, 2.2, 17)
    grid = np.stack(np.meshgrid(z, z[::-1]), axis=-1)
    tiles = mv.inference.decode_mean(model, grid)[..., 0]  # (17, 17, 28, 28)
    picture = tiles.transpose(0, 2, 1, 3).reshape(17 * 28, 17 * 28)
    right.imshow(picture, cmap="gray_r", extent=(-2.33, 2.33, -2.33, 2.33), interpolation="none")
    right.set(xlabel="$z_1$", ylabel="$z_2$", title="and what lies between, decoded")
    return figure


def samples() -> Figure:
    model, _ = trained(20, 15)
    images = mv.inference.sample(model, mv.Stream(1), 60)[..., 0]
    figure = Figure(figsize=(9, 2.5), layout="constrained")
    axes = figure.subplots()
    axes.imshow(images.reshape(4, 15, 28, 28).transpose(0, 2, 1, 3).reshape(4 * 28, 15 * 28), cmap="gray_r", interpolation="none")
    axes.set(title="60 draws from the prior of 20 latents", xticks=[], yticks=[])
    return figure


def speed() -> Figure:
    """The first table of docs/performance.md: how many times as fast as the best peer a training step is."""
    rows = table((HERE / "performance.md").read_text("utf-8"))
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    axes = figure.subplots()
    for i, (name, (peer, ratio, low, high)) in enumerate(rows.items()):
        axes.barh(-i, ratio, 0.7, color=COLOURS[0])
        axes.errorbar(ratio, -i, xerr=[[ratio - low], [high - ratio]], color=INK, capsize=3, linewidth=1)
        axes.text(0.05, -i, name, va="center", color="white", fontsize=10)
        axes.text(high + 0.04, -i, f"{ratio:.2f} times {peer}", va="center", color=INK, fontsize=10)
    axes.axvline(1, color=INK, linewidth=0.8, linestyle="--")
    axes.set(
        yticks=[],
        xlim=(0, 3.1),
        xlabel="speed of a training step over that of the best of PyTorch and JAX (median, 10th to 90th percentile)",
    )
    axes.set_title("On two Zen 5 cores, float32", fontsize=11)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def table(text: str) -> dict[str, tuple[str, float, float, float]]:
    """{workload: (best peer, ratio, its 10th and 90th percentile)} of the first table that has a column of ratios."""
    lines = text.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("| workload | minivae ms"))
    rows = {}
    for line in lines[head + 2 :]:
        if not line.startswith("|"):
            break
        name, _, peer, _, ratio, spread, _ = (cell.strip() for cell in line.strip("|").split("|"))
        rows[name] = peer, float(ratio), *map(float, re.findall(r"[\d.]+", spread))
    return rows


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    for name, make in (("speed", speed), ("map", latent_map), ("samples", samples)):
        make().savefig(PICTURES / f"{name}.png", dpi=85)
