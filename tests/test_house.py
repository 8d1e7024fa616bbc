"""The house keeps its shape: imports run downhill, the front door is light, files stay small."""

import ast
import inspect
import subprocess
import sys
import time
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "minivae"

LAYERS = [  # lowest first: a room may import what stands on an earlier line
    ["errors", "version"],
    ["naming"],
    ["backend"],
    ["kernels"],
    ["profiling"],
    ["tensor"],
    ["checks"],
    ["engine", "random"],
    ["ops", "data"],
    ["replay"],
    ["gradcheck", "quadrature", "distributions", "nn"],
    ["models"],
    ["penalties"],
    ["objectives"],
    ["training", "evaluate", "compress"],
    ["runs", "inference"],
    ["bugs", "applications"],
    ["plots", "explorer"],
    ["cli"],
    ["__main__"],
    ["__init__"],  # the front door: it shows what is inside, and nobody inside goes out to come in
]
HEIGHT = {room: height for height, rooms in enumerate(LAYERS) for room in rooms}
ONLY = {"data": {"errors", "backend", "random"}}  # usable without the rest of the house
BESIDE = {("nn", "distributions")}  # a layer may end in a distribution


def imported_rooms(tree, package, rooms):
    """(line, room) for every import of the package's own modules in a syntax tree, wherever it stands: late imports count too.

    package: the dotted place that relative imports start from, ("minivae", "ops") for minivae/ops/dense.py.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            # `from minivae import ops` names a room, `from minivae import Tensor` goes through the front door
            targets = [(*base, alias.name) if len(base) == 1 and alias.name in rooms else base for alias in node.names]
        else:
            continue
        for target in targets:
            if target[:1] == package[:1]:
                yield node.lineno, target[1] if len(target) > 1 else "__init__"


def uphill_imports(root):
    """A sentence for every import in the package at `root` that does not run downhill, and for every room without a place."""
    files = sorted(root.rglob("*.py"))
    room_of = {path: path.relative_to(root).parts[0].removesuffix(".py") for path in files}
    rooms = set(room_of.values())
    complaints = [f"{room} has no place in the house: add it to LAYERS in tests/test_house.py" for room in sorted(rooms - HEIGHT.keys())]
    for path, room in room_of.items():
        package = (root.name, *path.relative_to(root).parts[:-1])
        for line, other in imported_rooms(ast.parse(path.read_text("utf-8")), package, rooms):
            allowed = other == room or (room, other) in BESIDE
            if room in HEIGHT and other in HEIGHT:
                allowed |= HEIGHT[other] < HEIGHT[room] and other in ONLY.get(room, HEIGHT)
                if not allowed:
                    complaints.append(f"{path.relative_to(root.parent)}:{line}: {room} imports {other}, which is not below it")
            elif other not in rooms:
                complaints.append(f"{path.relative_to(root.parent)}:{line}: there is no {root.name}.{other}")
    return complaints


def test_imports_run_downhill():
    assert uphill_imports(PACKAGE) == []


def house(folder, files):
    for name, text in files.items():
        (folder / "minivae" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "minivae" / name).write_text(text)
    return folder / "minivae"


STANDARD = {
    "__init__.py": "from . import nn, ops\nfrom .engine import Tensor\n__version__ = '1'\n",
    "errors.py": "",
    "backend.py": "import numpy\nfrom .errors import E\n",
    "kernels/cpu/gemm.py": "from ...backend import xp\nfrom ..shared import tile\nfrom . import conv\n",
    "engine.py": "from .backend import xp\nfrom . import errors\n",
    "random.py": "from .kernels.cpu import philox\n",
    "ops/__init__.py": "from .dense import dense\nfrom ..engine import Op\n",
    "ops/dense.py": "from .activations import relu\nfrom minivae.kernels import cpu\nimport minivae.kernels.cpu.gemm as gemm\n",
    "distributions.py": "from . import ops\n",
    "nn.py": "from minivae import ops\nfrom .distributions import Gaussian\n",
    "data/idx.py": "from ..random import Stream\nfrom ..backend import xp\n",
    "training/loop.py": "from ..data import batches\nfrom .checkpoint import save\n",
    "cli.py": "from .training import loop\n",
}


def test_a_house_in_order_is_left_alone(tmp_path):
    assert uphill_imports(house(tmp_path, STANDARD)) == []


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("backend.py", "from .engine import Tensor\n", "backend.py:1: backend imports engine"),
        ("backend.py", "from . import errors, nn\n", "backend.py:1: backend imports nn"),
        ("ops/dense.py", "\n\nimport minivae.nn\n", "ops/dense.py:3: ops imports nn"),
        ("ops/dense.py", "from minivae import nn\n", "ops/dense.py:1: ops imports nn"),
        ("ops/dense.py", "from minivae.nn import Dense\n", "ops/dense.py:1: ops imports nn"),
        ("ops/dense.py", "def late():\n    from .. import nn\n", "ops/dense.py:2: ops imports nn"),
        ("ops/__init__.py", "from ..training import loop\n", "ops/__init__.py:1: ops imports training"),
        ("kernels/cpu/gemm.py", "from ...engine import Op\n", "gemm.py:1: kernels imports engine"),
        ("distributions.py", "from .nn import Dense\n", "distributions.py:1: distributions imports nn"),
        ("engine.py", "from .random import Stream\n", "engine.py:1: engine imports random"),
        ("training/loop.py", "from ..evaluate import nll\n", "loop.py:1: training imports evaluate"),
        ("data/idx.py", "from ..engine import Tensor\n", "data/idx.py:1: data imports engine"),
        ("data/idx.py", "from .. import kernels\n", "data/idx.py:1: data imports kernels"),
        ("ops/dense.py", "from ..data import batches\n", "dense.py:1: ops imports data"),
        ("nn.py", "from . import Tensor\n", "nn.py:1: nn imports __init__"),
        ("nn.py", "import minivae\n", "nn.py:1: nn imports __init__"),
        ("nn.py", "from .opps import dense\n", "nn.py:1: there is no minivae.opps"),
        ("utils.py", "", "utils has no place in the house: add it to LAYERS"),
        ("helpers/tools.py", "from ..cli import main\n", "helpers has no place in the house: add it to LAYERS"),
    ],
)
def test_a_planted_import_is_found(tmp_path, name, text, complaint):
    (found,) = uphill_imports(house(tmp_path, STANDARD | {"evaluate/nll.py": "", name: text}))
    assert complaint in found


NOTE_IMPORTS = """
import sys
class Note:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("cupy", "matplotlib"):
            print(name)
sys.meta_path.insert(0, Note())
"""


def imports_of(statement):
    """Which of cupy and matplotlib a fresh interpreter looks for, installed or not, to run the statement."""
    command = [sys.executable, "-c", f"{NOTE_IMPORTS}\n{statement}"]
    done = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


def test_the_front_door_loads_neither_cupy_nor_matplotlib():
    assert imports_of("import minivae") == set()
    assert imports_of("import minivae\ntry: import cupy.cuda\nexcept ImportError: pass") >= {"cupy"}
    assert "matplotlib" in imports_of("import minivae, matplotlib")


def test_the_front_door_loads_no_numba():
    """It takes longer to load than all the rest, and is loaded when the first kernel is needed: see kernels/lazy.py."""
    loaded = "import sys, minivae; print(*{'numba', 'scipy', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", loaded], cwd=PACKAGE.parent, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []


def test_no_public_name_is_replaced_by_a_room_of_that_name():
    """Importing minivae.x binds the room x in minivae: nothing else at the front door may have a room's name."""
    import minivae

    rooms = {path.stem for path in PACKAGE.iterdir()} & set(minivae.__all__)
    assert rooms
    assert all(inspect.ismodule(getattr(minivae, room)) for room in rooms)


def seconds(statement):
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], cwd=PACKAGE.parent, timeout=60, check=True)
    return time.perf_counter() - start


def test_the_front_door_opens_in_half_a_second():
    """Start of Python and NumPy included.  The best of five: a busy machine only ever adds.  Where numba alone takes more than a
    fifth of a second, the processor is slow or shared, and numba's own time is the yardstick."""
    limit = max(0.5, 2.5 * min(seconds("import numba") for _ in range(5)))
    assert min(seconds("import minivae") for _ in range(5)) < limit
    assert seconds("import minivae, time; time.sleep(0.5)") > 0.5  # the clock runs


def test_no_file_outgrows_one_idea():
    for path in PACKAGE.rglob("*"):
        if path.suffix in (".py", ".cu"):
            lines = len(path.read_text("utf-8").splitlines())
            assert lines <= 320, f"{path.relative_to(PACKAGE.parent)} has {lines} lines: is it still one idea?"


CORE = [  # what a student reads in an evening, in this order
    "tensor.py",
    "engine.py",
    "ops/arithmetic.py",
    "ops/dense.py",
    "ops/densities.py",
    "nn/module.py",
    "nn/layers.py",
    "distributions/base.py",
    "distributions/gaussian.py",
    "distributions/bernoulli.py",
    "distributions/kl.py",
    "models/vae.py",
    "objectives/base.py",
    "objectives/elbo.py",
    "training/loop.py",
]


def test_the_core_is_read_in_an_evening():
    """Tensor, engine, op references, layers, distributions, the contract and the VAE, the ELBO, the Trainer: under 2,000 lines that are not
    blank, without the fast kernels' part of the ops, which stands behind a line of its own in each file."""
    lines = 0
    for name in CORE:
        text = (PACKAGE / name).read_text("utf-8")
        lines += sum(bool(line.strip()) for line in text.split("# --- fast kernels")[0].splitlines())
    assert lines < 2000


def test_the_way_from_the_command_line_to_the_first_layer_is_short(tmp_path, monkeypatch):
    """At most 8 calls of ours lie between `minivae train` and the forward of the first layer."""
    import traceback

    import numpy as np

    from minivae import cli, nn

    np.savez(tmp_path / "images.npz", images=np.zeros((30, 4, 4, 1), np.uint8))
    ways = []

    def forward(self, x):
        ways.append(
            [
                f"{Path(frame.filename).relative_to(PACKAGE)}:{frame.name}"
                for frame in traceback.extract_stack()
                if frame.filename.startswith(str(PACKAGE))
            ]
        )
        return x.reshape(len(x), -1)

    monkeypatch.setattr(nn.Flatten, "__call__", forward)
    assert (
        cli.main(["train", str(tmp_path / "images.npz"), "--epochs", "1", "--hidden", "4", "--latent", "2", "--out", str(tmp_path / "run")])
        == 0
    )
    way = next(way for way in ways if any("loop.py" in frame for frame in way))
    assert len(way) <= 8, way  # each calls the next; the last calls the layer
