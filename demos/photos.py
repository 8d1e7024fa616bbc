"""Photos for the demos that compress them: where they are found, and patches to train on.  No photo of the test is among those."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import skimage
import stage
from PIL import Image
from sklearn.datasets import load_sample_images

FOLDER = Path(skimage.__file__).parent / "data"
TEST = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png")
OTHERS = ("hubble_deep_field.jpg", "ihc.png", "retina.jpg")  # to train on, and no photo of the test's is near
LEAST = 256  # pixels of the shorter side of a picture that is trained on


def halved(image: Image.Image) -> np.ndarray:
    """Twice for a large one: what JPEG left in it goes."""
    factor = 4 if min(image.size) >= 1000 else 2
    return np.asarray(image.convert("RGB").resize((image.width // factor, image.height // factor), Image.Resampling.LANCZOS))


def samples() -> dict[str, np.ndarray]:
    """The two of scikit-learn."""
    return {name: halved(Image.fromarray(x)) for name, x in zip(("china", "flower"), load_sample_images().images, strict=True)}


def to_train(asked: Namespace) -> list[np.ndarray]:
    """The pictures of --data-dir, or five that come with packages.  Files with transparent pixels are drawings, and are left out."""
    if not asked.data_dir:
        return [*samples().values(), *(halved(Image.open(FOLDER / name)) for name in OTHERS)]
    files = sorted(f for f in asked.data_dir.rglob("*") if f.suffix.lower() in (".png", ".jpg", ".jpeg") and f.is_file())
    opened = (Image.open(f) for f in files)
    return [halved(image) for image in opened if image.mode == "RGB" and min(image.size) >= LEAST]


def to_test(asked: Namespace) -> dict[str, np.ndarray]:
    """The five of scikit-image; with --tiny a part of two."""
    names = stage.pick(asked, TEST[:2], TEST, TEST)
    found = {Path(name).stem: np.asarray(Image.open(FOLDER / name).convert("RGB")) for name in names}
    return {name: x[100:292, 150:342] for name, x in found.items()} if asked.tiny else found


def detail(x: np.ndarray) -> float:
    """The mean difference of neighbours in a row."""
    return float(abs(np.diff(x[..., 1].astype(np.int16), axis=1)).mean())


def patches(photos: list[np.ndarray], side: int, count: int, seed: int) -> np.ndarray:
    """At random places, half of them mirrored, each the one of four with most detail: photos have large parts out of focus, from which
    there is little to learn.     -> (count, side, side, 3) bytes"""
    draw = np.random.default_rng(seed)

    def patch() -> np.ndarray:
        photo = photos[draw.integers(len(photos))]
        corners = [[int(draw.integers(n - side + 1)) for n in photo.shape[:2]] for _ in range(4)]
        return max((photo[i : i + side, j : j + side] for i, j in corners), key=detail)[:, :: draw.choice([-1, 1])]

    return np.stack([patch() for _ in range(count)])
