"""Models and objectives in a checkpoint: what is written of them, and how they are made again."""

from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..models import build, describe
from ..naming import class_at, path_of
from ..objectives import OBJECTIVES, Objective
from ..random import Stream
from ..version import VERSION
from . import checkpoint
from .version01 import upgraded

CHECKPOINT = "model.npz"  # of a run folder


def describe_objective(objective: Objective) -> dict[str, Any]:
    """{"objective": its name, or its class's path, **its fields}"""
    kind = type(objective)
    return {"objective": objective.name if OBJECTIVES.get(objective.name) is kind else path_of(kind)} | objective.settings()


def build_objective(description: dict[str, Any]) -> Objective:
    """The objective of a description.  Raises UsageError."""
    name, settings = description["objective"], {key: value for key, value in description.items() if key != "objective"}
    if name not in OBJECTIVES and ":" not in name:
        raise UsageError(f"objective {name!r} is unknown; choose one of {', '.join(OBJECTIVES)}")
    kind = OBJECTIVES[name] if name in OBJECTIVES else class_at(name, "pass the objective to Run.open(folder, objective=...)", Objective)
    return kind(**settings)


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(arrays, metadata) of a run folder or of a checkpoint, in today's form, whichever version wrote it."""
    path = Path(path)
    return upgraded(*checkpoint.load(path / CHECKPOINT if path.is_dir() else path))


def save(model: Any, path: str | Path) -> None:
    """Write a model to a file that `load` reads; whole or not at all."""
    arrays = {f"model/{name}": a for name, a in model.state().items()}
    streams = {f"model/{name}": stream.state() for name, stream in model.named_streams().items()}
    checkpoint.save(path, arrays, {"minivae": VERSION, "model": describe(model), "streams": streams})


def load(path: str | Path, model: Any = None) -> Any:
    """The model of a run folder, of its model.npz, or of a file that `save` wrote, ready to evaluate: `mv.load("runs/first")`.

    model    an instance to fill: for a class of yours that cannot be imported by its name or made without arguments
    """
    arrays, metadata = read(path)
    model = build(metadata["model"], Stream(0)) if model is None else model
    model.load_state({name.removeprefix("model/"): a for name, a in arrays.items() if name.startswith("model/")})
    for name, stream in model.named_streams().items():
        if (state := metadata["streams"].get(f"model/{name}")) is not None:
            stream.set_state(state)
    model.train(False)
    return model
