r"""Gaps: what an autoencoder's decoder has never seen
===================================================

An autoencoder maps each image to a point, and nothing says where: there is no distribution to draw codes from, and between the points are
gaps that no training image has ever been decoded from.  A VAE maps each image to an area, and all areas together to the prior.  So codes
drawn from the prior should decode to digits with the VAE, and not with the autoencoder.

Two judges that know only real digits: the distance of a decoded image to the nearest real one,
:math:`\min_n \| \hat{x} - x_n \|`, and two shares.  *Precision*: of decoded images, those within reach of a real one (nearer to it than its
own third neighbour).  *Coverage*: of real images, those that have a decoded one within their reach.
``python demos/gaps.py --out figures`` judges.
"""
# %%
# Four models of one architecture: autoencoder and VAE, with 2 latents, which can be drawn, and with 16, which can hold a digit.

import numpy as np
import stage
from matplotlib.figure import Figure

from minivae import VAE, Stream, no_grad, plots
from minivae.data import to_float
from minivae.evaluate import nearest, precision_coverage
from minivae.models import AE
from minivae.plots.layout import INK, SMALL, TEXT, TITLE, calm

asked = stage.options(__doc__)
digits = stage.digits(asked)
epochs = stage.pick(asked, 10, 60, 10)
train, test = to_float(digits.train_images[:4500]), to_float(digits.test_images[:1000])
rng = Stream(asked.seed)


def trained(kind: type[VAE], latent: int) -> VAE:
    name = f"{kind.__name__} of {latent}"
    model = kind(digits.image_shape, rng.split(name), latent=latent, hidden=(200,))
    stage.train(model, digits.train_images, epochs, name=name, batch_size=100, lr=2e-3, seed=asked.seed)
    return model


def codes(model: VAE, images: np.ndarray) -> np.ndarray:
    with no_grad():
        return model.encode(images).mean.data


models = {(kind.__name__, latent): trained(kind, latent) for latent in (2, 16) for kind in (AE, VAE)}
mse = {key: float(((model.reconstruct(test) - test) ** 2).mean()) for key, model in models.items()}
for (kind, latent), error in mse.items():
    print(f"{kind} of {latent} latents: mean squared error of a test pixel {error:.4f}")
stage.claim("with 16 latents, the autoencoder reconstructs better than the VAE", mse["AE", 16] < mse["VAE", 16])

# %%
# With room for a digit, the autoencoder reconstructs better: it pays nothing for its codes.  (With 2 latents either may win: noise on the
# codes keeps a VAE from learning the training images by heart.)  Now the maps.  A gap is a place in their midst, with at least 5% of the
# codes on every side of it, and far from every code: the six largest empty discs are marked, with what they decode to.


def gaps(codes: np.ndarray, count: int = 6, sides: int = 64, grid: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """Centres (count, 2) and radii of the largest discs without a code, apart, on a grid over the midst of the map."""
    low, high = codes.min(axis=0), codes.max(axis=0)
    places = np.stack(np.meshgrid(*np.linspace(low, high, grid).T), axis=-1).reshape(-1, 2)
    angles = 2 * np.pi * np.arange(sides) / sides
    directions = np.stack([np.cos(angles), np.sin(angles)])
    places = places[(places @ directions <= np.quantile(codes @ directions, 0.95, axis=0)).all(axis=1)]
    radii, chosen = nearest(places, codes), []
    free = np.ones(len(places), bool)
    while len(chosen) < count:
        chosen.append(int(np.where(free, radii, -1).argmax()))
        free &= nearest(places, places[chosen[-1:]]) > 2 * radii[chosen[-1]]
    return places[chosen], radii[chosen]


panels, sizes = {}, {}
for kind, title in (("AE", "autoencoder"), ("VAE", "VAE")):
    model = models[kind, 2]
    mean = codes(model, train)
    where, radii = gaps(mean)
    sizes[kind] = radii / np.sqrt(mean.var(axis=0).mean())
    panels[f"{title}: the gaps in its map"] = mean, where, model.decode_mean(where.astype(np.float32))
    off = nearest(model.decode_mean(where.astype(np.float32)), train)
    print(f"{title}: discs without a code, in standard deviations of the codes: {', '.join(f'{r:.2f}' for r in sizes[kind])}")
    print(f"    what is decoded there is {off.mean():.2f} from the nearest digit")
stage.save(plots.places(panels, digits.train_labels[: len(train)], digits.label_names), asked.out / "gaps_maps.png")

# %%
# In a plane both maps are crowded, and the gaps are small: what is decoded there is a blend of the neighbours.  The judge finds it near to
# digits, nearer than a sharp digit is, since blur is near to everything.  So these gaps are not what hurts.  Not to know where to draw from
# is: the prior's disc is a small part of the autoencoder's map, wherever that happens to lie.  And with more latents, a map is mostly gap.
#
# Codes are taken from four places: those of test images; :math:`\mathcal{N}(0, I)`, the prior; a Gaussian with the mean and the covariance
# of the model's codes, as if one had asked the autoencoder where they are; and :math:`\mathcal{N}(0, 100 I)`, plain random numbers, which
# lie where hardly any code has ever been.

standard = {latent: rng.split(f"draws of {latent}").normal((1000, latent)) for latent in (2, 16)}
real = nearest(test, train), *precision_coverage(test, train[:2000])
found, pictures = {}, {}


def row(name: str, distance: np.ndarray, precision: float, coverage: float) -> None:
    print(f"{name:<38}{distance.mean():8.2f}{precision:11.2f}{coverage:10.2f}")


print(f"{'':<38}distance  precision  coverage")
row("real test digits", *real)
for (kind, latent), model in models.items():
    mean, draws = codes(model, train), standard[latent]
    fitted = mean.mean(axis=0) + draws @ np.linalg.cholesky(np.cov(mean.T)).T
    of_test = codes(model, test)
    for source, z in {"test images": of_test, "N(0, I)": draws, "a fitted Gaussian": fitted, "N(0, 100 I)": 10 * draws}.items():
        images = model.decode_mean(z.astype(np.float32))
        found[latent, kind, source] = nearest(images, train), *precision_coverage(images, train[:2000])
        pictures[latent, kind, source] = images[:14]
        row(f"{kind} of {latent}, codes of {source}", *found[latent, kind, source])
    ratio = np.median(nearest(fitted, mean)) / np.median(nearest(of_test, mean))
    print(f"    draws of the fitted Gaussian are {ratio:.1f} times as far from the nearest code as the codes of test images are")

# %%
# **Drawn from the prior**, the autoencoder's images are further from real digits, with 2 latents, and of few kinds.  With 16 the distance
# alone would be deceived: codes near 0 decode to faint clouds, and what is faint is far from no digit.  The coverage is not deceived.
# **Drawn from where its codes are**, with 16 latents, they are still further off than the VAE's from the prior, and cover less.  The VAE's
# map is denser by the ratios above, with 2 latents much, with 16 hardly; there it is the noise on its codes that had its decoder learn what
# lies between.  **Plain random numbers**, far outside, decode to torn and saturated shapes with the VAE as well.


def mean_distance(*key: object) -> float:
    return float(found[key][0].mean())


def share(which: int, *key: object) -> float:
    """Precision (1) or coverage (2)."""
    return found[key][which]


near, far = mean_distance(2, "VAE", "N(0, I)"), mean_distance(2, "AE", "N(0, I)")
stage.claim(f"2 latents: decoded from N(0, I), the autoencoder is further from digits: {far:.2f}, the VAE {near:.2f}", far > near)
for latent in (2, 16):
    many, few = share(2, latent, "VAE", "N(0, I)"), share(2, latent, "AE", "N(0, I)")
    stage.claim(f"{latent} latents: and covers fewer: {few:.2f}, the VAE {many:.2f}", many > few + stage.pick(asked, 0.05, 0.1, 0.1))
near, far = mean_distance(16, "VAE", "N(0, I)"), mean_distance(16, "AE", "a fitted Gaussian")
stage.claim(f"16 latents: even from a Gaussian fitted to its codes the autoencoder is further: {far:.2f}, the VAE {near:.2f}", far > near)
many, few = share(2, 16, "VAE", "N(0, I)"), share(2, 16, "AE", "a fitted Gaussian")
stage.claim(f"16 latents: and covers fewer: {few:.2f}, the VAE {many:.2f}", many > few)
for latent in (2, 16):
    good, bad = share(1, latent, "VAE", "N(0, I)"), share(1, latent, "VAE", "N(0, 100 I)")
    text = f"{latent} latents: {bad:.0%} of what the VAE decodes from N(0, 100 I) is within reach of a digit, {good:.0%} of N(0, I)"
    stage.claim(text, good > 0.9 and bad < good - 0.2)

fig = Figure(figsize=(9.5, 4.6), layout="constrained", facecolor="white")
for ax, latent in zip(fig.subplots(1, 2, sharex=True), (2, 16), strict=True):
    rows = {"real test digits": (real, "0.15")}
    rows |= {f"{k}: {s}": (what, "#D55E00" if k == "AE" else "#0072B2") for (n, k, s), what in found.items() if n == latent}
    for y, ((distance, precision, coverage), colour) in enumerate(rows.values()):
        low, first, median, third, high = np.quantile(distance, [0.05, 0.25, 0.5, 0.75, 0.95])
        ax.plot([low, high], [y, y], color=colour, linewidth=1.2)
        ax.plot([first, third], [y, y], color=colour, linewidth=6, solid_capstyle="butt")
        ax.plot(median, y, marker="o", color="white", markersize=3.5)
        ax.text(1.02, y, f"{precision:.2f}   {coverage:.2f}", transform=ax.get_yaxis_transform(), fontsize=SMALL, color=INK, va="center")
    ax.text(1.02, -0.9, "prec.  cov.", transform=ax.get_yaxis_transform(), fontsize=SMALL, color=INK, va="center")
    ax.set_yticks(range(len(rows)), list(rows), fontsize=SMALL)
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlim=(0, None))
    ax.set_title(f"{latent} latents", fontsize=TITLE, color=INK, loc="left")
    ax.set_xlabel("distance to the nearest real digit (Euclidean, over pixels)", fontsize=TEXT, color=INK)
    calm(ax)
stage.save(fig, asked.out / "gaps_distances.png")

fig = Figure(figsize=(7.5, 6.8), layout="constrained", facecolor="white")
ax = fig.add_subplot()
H, W, _ = digits.image_shape
ax.imshow(np.vstack([np.hstack(list(images[..., 0])) for images in pictures.values()]), cmap="gray", vmin=0, vmax=1, aspect="auto")
ax.set_yticks(H * (np.arange(len(pictures)) + 0.5), [f"{kind} of {n}: {source}" for n, kind, source in pictures], fontsize=SMALL)
ax.set_xticks([])
ax.set_title("Decoded from codes of ...", fontsize=TITLE, color=INK)
ax.hlines(4 * H * np.arange(1, 4) - 0.5, -0.5, 14 * W - 0.5, color="#E69F00", linewidth=1.5)
calm(ax)
stage.save(fig, asked.out / "gaps_decoded.png")
