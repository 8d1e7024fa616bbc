"""Checkpoints that version 0.1 wrote, in today's form."""

from typing import Any

import numpy as np

OPTIMIZERS = {"optimizer": "model.optimizer", "critic_optimizer": "critic.optimizer"}  # names of groups of arrays
MOVED = ("beta", "kl_warmup", "objective", "samples", "capacity", "free_bits", "critic")  # from the training to the objective
FIELDS = {
    "elbo": ("beta", "kl_warmup"),
    "iwae": ("samples",),
    "tc": ("beta", "kl_warmup"),
    "factor": ("beta", "kl_warmup", "critic"),
    "capacity": ("beta", "capacity", "kl_warmup"),
    "free_bits": ("beta", "free_bits", "kl_warmup"),
}


def upgraded(arrays: dict[str, np.ndarray], metadata: dict[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays, metadata) with the objective by itself and every player's optimizer under the player's name."""
    if "training" not in metadata or "objective" not in metadata["training"]:
        return arrays, metadata

    def renamed(name: str) -> str:
        group, _, inner = name.partition("/")
        return f"{OPTIMIZERS.get(group, group)}/{inner}"

    training = {key: value for key, value in metadata["training"].items() if key not in MOVED}
    streams = {f"model/{name}": state for name, state in metadata["streams"].items()}
    return {renamed(name): a for name, a in arrays.items()}, metadata | {
        "training": training,
        "streams": streams,
        "objective": objective_of(metadata["training"]),
    }


def objective_of(training: dict[str, Any]) -> dict[str, Any]:
    """The description of the objective that was mixed with the settings of the training."""
    name = training["objective"]
    if name == "elbo":  # what was a number there has become an objective of its own
        name = "capacity" if training.get("capacity") is not None else "free_bits" if training.get("free_bits") else "elbo"
    settings = {field: training[field] for field in FIELDS[name] if field in training}
    if name == "factor":
        settings["gamma"] = settings.pop("beta")
    return {"objective": name} | settings
