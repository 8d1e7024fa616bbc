"""`minivae gradcheck` as a person meets it."""

import numpy as np
import pytest

from minivae import Run, data, stop_gradient
from minivae.cli import main
from minivae.objectives import Elbo


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that has not been trained yet, on colour images, with beta = 2."""
    folder = tmp_path_factory.mktemp("proof")
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 9, 3), np.uint8)
    np.savez(folder / "images.npz", images=images)
    source = {"name_or_path": str(folder / "images.npz")}
    model = {"arch": "conv", "channels": (2, 3), "hidden": (5,), "latent": 2, "likelihood": "gaussian"}
    return Run.start(folder / "run", data.load(**source), model, source=source, objective=Elbo(2.0)).folder


def test_a_right_gradient_is_a_table_a_verdict_and_a_v_curve(run, capsys, tmp_path):
    png = tmp_path / "v.png"
    assert main(["gradcheck", str(run), "--out", str(png)]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert lines[0].startswith(f"gradient of the loss of {run}, 4 test images: ")
    assert lines[0].endswith("noise frozen, in float64 copies")
    assert max(map(len, lines[1:-1])) <= 100
    names = Run.open(run).model.named_parameters()
    assert [line.split()[0] for line in lines if line.endswith(" ok")] == list(names)
    assert lines[-2].startswith(f"ok: {len(names)} gradients agree")
    assert lines[-1] == str(png)
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_wrong_gradient_exits_with_2_and_one_sentence(run, capsys, monkeypatch, tmp_path):
    losses = Elbo.losses

    def cut(self, *arguments):
        _, parts = losses(self, *arguments)
        return {"model": parts["reconstruction"].mean() + self.beta * stop_gradient(parts["kl"].data).mean()}, parts

    monkeypatch.setattr(Elbo, "losses", cut)
    assert main(["gradcheck", str(run), "--out", str(tmp_path / "v.png")]) == 2
    out, err = capsys.readouterr()
    assert "WRONG" in out
    assert err.startswith("minivae: the gradient of encoder.")
    assert err.count("\n") == 1
    # decoder gradients do not pass through the KL divergence
    assert [line.split()[0] for line in out.splitlines() if line.endswith(" WRONG")] == [
        name for name in Run.open(run).model.named_parameters() if name.startswith("encoder.")
    ]


def test_no_run_is_one_sentence(tmp_path, capsys):
    assert main(["gradcheck", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
