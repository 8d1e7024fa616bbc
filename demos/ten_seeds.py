"""Ten seeds of one GAN: how many come to the end
==============================================

"Not very stable", says the lecture of GANs. It can be counted: the GAN that ``minivae train mnist --model gan`` trains, without a setting
touched, from ten seeds. Each run is watched as every run is, by the alarm for mode collapse, and read at the end by a classifier: are all
ten digits among its samples, and how evenly?  ``python demos/ten_seeds.py --out figures``
"""

import tempfile
from pathlib import Path

import numpy as np
import stage
from tqdm import tqdm

import minivae as mv
from minivae import Stream, inference, plots
from minivae.errors import NonFiniteError
from minivae.evaluate import mode_count
from minivae.models import Classifier
from minivae.objectives import CrossEntropy
from minivae.runs.collapse import LOST, PATIENCE
from minivae.training import TrainingConfig

asked = stage.options(__doc__)
digits = stage.digits(asked)
seeds, epochs = stage.pick(asked, (2, 4), (10, 30), (10, 10))
samples = stage.pick(asked, 200, 1000, 2000)

# %%
# Who reads the samples: a classifier of the ten digits, by its error as good as what it counts.

eyes = Classifier(digits.image_shape, Stream(asked.seed).split("weights of the classifier"))
some = slice(0, min(len(digits.train_images), 20_000))
stage.train(
    eyes,
    digits.train_images[some],
    stage.pick(asked, 2, 5, 2),
    digits.train_labels[some],
    CrossEntropy(),
    "classifier",
    lr=2e-3,
    batch_size=64,
)
error = (inference.classify(eyes, digits.test_images[:2000]) != digits.test_labels[:2000]).mean()
print(f"the classifier is wrong about {error:.1%}; {epochs} epochs of {len(digits.train_images)} images a run, {samples} samples")

# %%
# The runs, as the command line makes them.  *Alarm* is the epoch in which training warned, as it does when the samples of three epochs in
# a row were near less than a tenth of the images held back; a *class* counts if it is at least 2% of the samples, a fifth of its share.

print("seed  epochs  alarm  coverage, least and last  critic right, real and made  classes  KL from equal, nats")
healthy, shown = 0, []
for seed in tqdm(range(asked.seed, asked.seed + seeds), desc="seeds", leave=False, delay=2):
    with tempfile.TemporaryDirectory() as folder:
        run = mv.Run.start(Path(folder) / "run", digits, {"model": "gan"}, TrainingConfig(epochs=epochs, seed=seed))
        try:
            run.train(digits)
        except NonFiniteError as failure:
            print(f"{seed:4d}  epoch {run.epochs_done}: {failure}")
            continue
        lines = run.metrics
    alarms = [line["epoch"] for line in lines if "warning" in line]
    made = inference.sample(run.model, Stream(seed).split("samples"), samples)
    labels = inference.classify(eyes, made)
    _, uneven = mode_count(labels[:, None])
    classes = int((np.bincount(labels, minlength=10) >= samples / 50).sum())
    coverage, last = [line["coverage"] for line in lines], lines[-1]["train"]
    right = f"{last['critic_real']:.2f}, {last['critic_made']:.2f}"
    alarmed = str(alarms[0]) if alarms else "-"
    spread = f"{min(coverage):.2f}, {coverage[-1]:.2f}"
    print(f"{seed:4d}  {run.epochs_done:6d}  {alarmed:>5s}  {spread:>24s}  {right:>27s}  {classes:7d}  {uneven:19.3f}", flush=True)
    well = run.epochs_done == epochs and not alarms and classes == 10
    healthy += well
    shown.append((seed, made[:10]))

names = [f"seed {seed}" for seed, _ in shown]
pictures = {"ten samples of each run": np.stack([made for _, made in shown])}
stage.save(plots.groups(pictures, "The default GAN", names), asked.out / "ten_seeds.png")
stage.claim(
    f"{healthy} of {seeds} seeds train for all {epochs} epochs, with no alarm (coverage below {LOST} for {PATIENCE} epochs) and all ten "
    "digits among their samples",
    healthy >= stage.pick(asked, 0, 0.9, 0.9) * seeds,
)
