"""The latent space on the front page: a small VAE with two latents, trained while the pages are built, as a page that is touched there."""

from pathlib import Path
from typing import Any

from minivae import VAE, Stream, data
from minivae.explorer import page
from minivae.explorer.payload import Look
from minivae.objectives import Elbo
from minivae.runs.saved import describe_objective
from minivae.training import Trainer, TrainingConfig, losses

NAME = "latent-space.html"


def live(epochs: int = 40) -> str:
    """HTML: 5,000 digits on a plane.  Forty epochs take seconds."""
    digits, objective = data.load("digits5k"), Elbo()
    model = VAE(digits.image_shape, Stream(0).split("weights"), latent=2, hidden=(200, 100), activation="tanh")
    trainer = Trainer(model, TrainingConfig(epochs=epochs, lr=2e-3, lr_schedule="cosine"), objective)
    metrics = []
    for epoch in range(epochs):
        train = trainer.epoch(digits.train_images)
        metrics.append({"epoch": epoch + 1, "train": train, "test": losses(model, digits.test_images, objective=objective)})
    return page([Look("digits on a plane", model, digits, describe_objective(objective), metrics)])


def write(app: Any, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        (Path(app.outdir) / NAME).write_text(live(), "utf-8")


def setup(app: Any) -> dict[str, bool]:
    app.connect("build-finished", write)
    return {"parallel_read_safe": True}
