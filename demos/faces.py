r"""Which latent is the skin, and which the glasses
===============================================

A decoder that was never told what skin, age or saturation are has latents that move just these: such rows of faces are the usual picture
of what a VAE learns. Whether a row shows what its caption says is judged there by eye. Here the faces are drawn from twelve factors, each
known exactly, so that every latent can be *measured*: the share of a factor's variance that is read from this latent alone, R², and the
share of the latent's variance that this factor makes, its purity. Write the figures with ``python demos/faces.py --out figures``.

With ``--data-dir PHOTOS`` the images are your own: a folder of photographs, as they are, with CelebA's table ``list_attr_celeba.txt`` in
it or beside it if you have one.
"""

import numpy as np
import stage

from minivae import Stream, data, no_grad, plots
from minivae.data import Faces, to_float
from minivae.data.faces import ENDS, FACTORS, draw
from minivae.evaluate import appearance, readings
from minivae.models import VAE
from minivae.objectives import TotalCorrelation

asked = stage.options(__doc__)
size = stage.pick(asked, 16, 16, 32)
count, judged = stage.pick(asked, (6_000, 1_000), (20_000, 2_000), (20_000, 2_000))

# %%
# The faces, and below them each factor moved alone from one end to the other in one face.

faces = Faces()
if asked.data_dir:
    photos = data.load(asked.data_dir, size=size, mode="rgb")
    print(photos.note)
    train, test = photos.train_images, photos.test_images
    known = appearance(to_float(test)) | dict(photos.test_attributes)
    stage.save(plots.samples(to_float(test[:40]), f"{len(train) + len(test):,} photographs"), asked.out / "faces.png")
else:
    indices = faces.choose(count + judged, Stream(asked.seed).split("faces"))
    drawn = faces.images(indices, size)
    train, test = drawn[:count], drawn[count:]
    known = dict(zip(FACTORS, faces.factors(indices[count:]).T, strict=True))
    base = np.full((len(FACTORS), 7, len(FACTORS)), 0.5)
    for name, value in (("glasses", 0), ("age", 0.2), ("mouth", 0.8), ("saturation", 1)):
        base[:, :, FACTORS.index(name)] = value
    base[np.arange(len(FACTORS)), :, np.arange(len(FACTORS))] = np.linspace(0, 1, 7)
    alone = draw(base.reshape(-1, len(FACTORS))).reshape(*base.shape[:2], 64, 64, 3)
    labels = [f"{name}: {' to '.join(ENDS[name])}" for name in FACTORS]
    stage.save(plots.walks(to_float(alone), np.linspace(0, 1, 7), labels, "Each factor moved alone", "the factor"), asked.out / "faces.png")

# %%
# What a factor is worth to a model of images is how far it moves their pixels. Let S be half the squared distance of two faces that differ
# in this factor alone, on average. Where the decoder's noise has the variance :math:`\sigma^2`, a latent that tells the factor takes about
# :math:`\tfrac12 \log(S / \sigma^2)` nats, and none if that is negative. So a VAE takes up the factors in the order of S. Small ones come
# late: a factor that moves few pixels, or moves an edge to and fro, is the last that a network learns to see.


def worth() -> dict[str, float]:
    """The share of the pixels' variance that each factor makes, alone and with others."""
    rng = Stream(asked.seed).split("worth")
    here, other = (faces.factors(faces.choose(stage.pick(asked, 200, 1000, 1000), rng)) for _ in range(2))
    x = to_float(faces.images(faces.index(here), size))
    found = {}
    for j, name in enumerate(FACTORS):
        moved = here.copy()
        moved[:, j] = other[:, j]
        found[name] = float(((to_float(faces.images(faces.index(moved), size)) - x) ** 2).sum() / 2 / len(x))
    total = float(x.var(axis=0, dtype=np.float64).sum())
    return {name: s / total for name, s in found.items()}


# %%
# The objective is the :math:`\beta`-TCVAE: the KL's part that makes latents dependent, the total correlation, has the weight 20. It is what
# turns the axes. Two independent factors in two latents are independent there, and any mixture of them is not, so long as the factors are
# no Gaussians: uniform as they are, a turn by 45 degrees makes 0.3 nats of total correlation, where the ELBO, which feels only that S
# differ, loses next to nothing. The decoder is a Gaussian whose one scale is learned (O. Rybkin et al., 2021). With ``--full``
# training that was cut goes on where it stood.

per, batch = stage.pick(asked, 100, 250, 250), 64  # steps between two looks
phases = stage.pick(asked, [(20.0, 12)], [(20.0, 24)], [(20.0, 48), (100.0, 10)])  # weight of the total correlation, looks
model = VAE(
    (size, size, 3),
    Stream(asked.seed).split("weights"),
    latent=10,
    arch="conv",
    channels=stage.pick(asked, (16, 32), (16, 32), (16, 32, 32)),
    hidden=(256,),
    likelihood="gaussian",
)
model.log_scale.data[...] = np.log(0.5)
for phase, (weight, looks) in enumerate(phases):
    rng, steps = Stream(asked.seed + phase).split("order"), looks * per * batch
    order = np.concatenate([rng.permutation(len(train)) for _ in range(-(-steps // len(train)))])
    stage.train(
        model,
        lambda look, order=order: (train[order[look * per * batch : (look + 1) * per * batch]], None),
        looks,
        objective=TotalCorrelation(weight),
        name=f"weight {weight:g}",
        file=stage.kept(asked, f"faces {weight:g}"),
        batch_size=batch,
        lr=2e-3,
        lr_schedule="cosine",
        seed=asked.seed + phase,
    )

# %%
# What each latent says: on faces that were not trained on, R² of each factor from the mean code of each latent alone. The factor's mean in
# each of 30 cells of the latent is learned on one half of these faces and judged on the other, so that no form of the dependence is asked
# for. Noise has an R² of 0 or a little less, and no two independent factors can both have a high one in the same latent.

with no_grad():
    q = [model.encode(to_float(test[i : i + 250])) for i in range(0, len(test), 250)]
codes = np.concatenate([part.mean.data for part in q])
variance = np.exp(np.concatenate([part.logvar.data for part in q])).mean(axis=0)
found = readings(codes, known)
best = found.best()
share = {} if asked.data_dir else worth()
pixels = to_float(train[:1500]).reshape(min(len(train), 1500), -1)
_, _, axes = np.linalg.svd(pixels - pixels.mean(axis=0), full_matrices=False)
linear = readings((to_float(test).reshape(len(test), -1) - pixels.mean(axis=0)) @ axes[: codes.shape[1]].T, known).r2.max(axis=0)
print(f"{'factor':16s}{'share':>7s}{'PCA':>7s}{'latent':>8s}{'R²':>7s}{'next':>7s}{'purity':>8s}")
for j in sorted(range(len(found.names)), key=lambda j: -found.r2[:, j].max()):
    k, (second, first) = best[j], np.sort(found.r2[:, j])[-2:]
    part = f"{share[found.names[j]]:7.3f}" if share else " " * 7
    print(f"{found.names[j]:16s}{part}{linear[j]:7.2f}{k:8d}{first:7.2f}{second:7.2f}{found.purity[k, j]:8.2f}")
print(f"{(variance < 0.5).sum()} of {len(variance)} latents are in use; the decoder's σ is {np.exp(float(model.log_scale.data)):.3f}")

# %%
# The rows that a caption may be written under: a latent moves from -2 to 2, or the other way if its factor falls with it, and all else
# stays as it is in the code of one face. The table is the R² of every factor in that row's latent.

moves = np.linspace(-2, 2, 7)
shown = [j for j in sorted(range(len(best)), key=lambda j: -found.r2[:, j].max()) if found.r2[best[j], j] > 0.1]
first = {int(best[j]): j for j in reversed(shown)}  # of a latent's factors the one that it tells best
rows = sorted(first.items(), key=lambda row: -found.r2[row[0], row[1]])[:12] or [(int(variance.argmin()), 0)]
named = list(known.values())
start = codes[int(np.argmin(np.linalg.norm(codes, axis=1)))]
z = np.tile(start, (len(rows), len(moves), 1))
for r, (k, j) in enumerate(rows):
    rising = (codes[:, k] - codes[:, k].mean()) @ (named[j] - named[j].mean()) >= 0
    z[r, :, k] = moves if rising else -moves
pictures = model.decode_mean(z.astype(np.float32))
columns = [j for _, j in rows] + [j for j in range(len(best)) if j not in first.values()]
columns = columns[:16]
notes = [f"R² {found.r2[k, j]:.2f}, purity {found.purity[k, j]:.2f}" for k, j in rows]
steps_named = [f"{'−' if move < 0 else ''}{abs(move):.2g}σ" if move else "0" for move in moves]
table = found.r2[[k for k, _ in rows]][:, columns]
figure = plots.named_traversals(
    pictures, [found.names[j] for _, j in rows], notes, steps_named, table, [found.names[j] for j in columns], "R² of each factor"
)
stage.save(figure, asked.out / "faces_traversals.png")

# %%
# The claims. A factor counts as read if its R² is 0.8 or more from one latent alone.

read = [j for j in range(len(best)) if found.r2[best[j], j] >= 0.8]
names = ", ".join(found.names[j] for j in sorted(read, key=lambda j: -found.r2[best[j], j]))
if asked.data_dir:
    tells = readings(codes, {name: np.roll(values, 1) for name, values in known.items()}).r2.max()
    print(f"{len(read)} of {len(best)} attributes are read from one latent each, with an R² of 0.8 or more: {names or 'none'}")
    print(f"the most that a latent tells of an attribute is {found.r2.max():.2f}, and of the image before it {tells:.2f}")
else:
    need = stage.pick(asked, 1, 4, 6)
    stage.claim(
        f"{len(read)} factors are read from one latent each with an R² of 0.8 or more (need {need}): {names}",
        len(set(best[read])) == len(read) >= need,
    )
    rest = [share[name] for j, name in enumerate(FACTORS) if j not in read]
    inside = [share[found.names[j]] for j in read]
    stage.claim(
        f"they are those that move the pixels most: {np.mean(inside):.3f} of the variance each, the others {np.mean(rest or [0]):.3f}",
        np.mean(inside) > np.mean(rest or [0]),
    )
