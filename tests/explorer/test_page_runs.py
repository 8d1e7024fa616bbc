"""The page of several runs and of a model with labels, in a real Chromium; and how fast and how still any page is."""

import json

import numpy as np
import pytest

import minivae as mv
from minivae import inference
from minivae.data import to_float
from minivae.explorer import page
from minivae.explorer.payload import Look
from minivae.models import CVAE

from .chromium import Chromium
from .test_parity import strokes, trained

DATA = strokes(200)
PICTURE = "document.querySelector('#picture').toDataURL()"
CHECKED = "[...document.querySelectorAll('#labels button')].map((b) => b.getAttribute('aria-checked')).indexOf('true')"
SHIFTS = """
new Promise((go) => new PerformanceObserver((list) => go(list.getEntries().reduce((sum, e) => sum + e.value, 0)))
  .observe({ type: "layout-shift", buffered: true }) ?? setTimeout(() => go(0), 500))
"""
RATE = """
(() => {
  const model = window.minivae.model, z = Float32Array.from({ length: model.latent }, (_, k) => Math.sin(k));
  let best = 0;
  for (let window = 0; window < 8; window++) {  // of a quarter of a second each: the best, on a machine that does other work too
    const start = performance.now();
    let count = 0;
    for (; performance.now() - start < 250; count++) { z[0] = Math.cos(count); model.mean(z, 0); }
    best = Math.max(best, 1000 * count / (performance.now() - start));
  }
  return best;
})()
"""


@pytest.fixture(scope="module")
def browser():
    with Chromium() as chromium:
        yield chromium


def shown(browser, looks, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(page(looks), "utf-8")
    browser.open(file.as_uri())
    return file


def slide(browser, selector, value):
    event = "s.dispatchEvent(new Event('input', {bubbles: true}))"
    browser.run(f"(() => {{ const s = document.querySelector({json.dumps(selector)}); s.value = {value}; {event} }})()")
    browser.settle()


def test_the_slider_of_a_sweep_changes_the_model_and_keeps_the_example(browser, tmp_path):
    models = {beta: trained(mv.VAE(DATA.image_shape, mv.Stream(int(beta)), latent=3, hidden=(16,)), DATA) for beta in (4.0, 1.0)}
    ends = {4.0: {"kl": 3.0, "reconstruction": 60.0, "loss": 72.0}, 1.0: {"kl": 9.0, "reconstruction": 40.0, "loss": 49.0}}
    looks = [
        Look(f"beta{beta:g}", model, DATA, {"objective": "elbo", "beta": beta}, [{"epoch": 2, "train": ends[beta], "test": ends[beta]}])
        for beta, model in models.items()
    ]
    shown(browser, looks, tmp_path)
    assert browser.run("document.querySelector('#panel-runs').hidden") is False
    assert browser.run("document.querySelector('#title').textContent") == "beta1"  # in the order of their weights
    assert browser.run("document.querySelector('#run-said').textContent") == "β = 1"
    browser.run("window.minivae.choose(5)")
    browser.settle()
    before, rates = browser.run(PICTURE), browser.run("document.querySelector('#rates').toDataURL()")
    slide(browser, "#run", 1)
    assert browser.run("document.querySelector('#title').textContent") == "beta4"
    assert browser.run("document.querySelector('#run-said').textContent") == "β = 4"
    assert browser.run("window.minivae.state.image") == 5
    means = inference.encode_mean(models[4.0], DATA.test_images[5:6])[0]
    np.testing.assert_allclose(browser.run("Array.from(window.minivae.state.z)"), means, atol=2e-3)
    assert browser.run(PICTURE) != before
    assert browser.run("document.querySelector('#rates').toDataURL()") != rates
    browser.until("location.hash.includes('run=1')")
    address = browser.run("location.href")
    browser.open(address)
    assert browser.run("window.minivae.state.run") == 1
    assert browser.complaints() == []


def test_a_label_is_chosen_with_the_mouse_and_with_keys(browser, tmp_path):
    model = trained(CVAE(DATA.image_shape, mv.Stream(0), condition=3, latent=2, hidden=(16,)), DATA, epochs=20)
    shown(browser, [Look("labelled", model, DATA)], tmp_path)
    assert browser.run("document.querySelectorAll('#labels button').length") == 3
    pictures = {}
    samples = {}
    for label in range(3):
        browser.click(f"#labels button:nth-child({label + 1})")
        assert browser.run(CHECKED) == label
        pictures[label] = browser.run(PICTURE)
        samples[label] = browser.run("document.querySelector('#samples canvas').toDataURL()")
        z = np.float32(browser.run("Array.from(window.minivae.state.z)"))
        mean = np.array(browser.run("Array.from(window.minivae.picture())"))
        said = inference.decode_mean(model, z[None], np.array([label]))[0].reshape(-1)
        np.testing.assert_allclose(mean, said, atol=1 / 255)
    assert len(set(pictures.values())) == len(set(samples.values())) == 3
    browser.run("document.querySelectorAll('#labels button')[2].focus()")
    browser.key("ArrowRight")
    assert browser.run(CHECKED) == 0
    browser.run("window.minivae.choose(1)")
    browser.settle()
    assert browser.run(CHECKED) == DATA.test_labels[1]  # an example brings its label
    assert browser.complaints() == []


def test_nothing_jumps_while_a_page_is_used(browser, tmp_path):
    shown(browser, [Look("still", trained(mv.VAE(DATA.image_shape, mv.Stream(0), latent=2, hidden=(16,)), DATA), DATA)], tmp_path)
    for place in ((0.3, 0.3), (0.7, 0.6)):
        browser.drag("#map", (0.5, 0.5), place)
    browser.click("#sample")
    browser.run("new Promise((go) => setTimeout(go, 700))")  # what is written when the point rests
    assert browser.run(SHIFTS) < 0.01  # of the window's area; below 0.1 is called good: web.dev/articles/cls


@pytest.mark.parametrize("arch", ["dense", "conv"])
def test_a_page_of_a_default_model_is_small_and_fast(browser, tmp_path, arch, capsys):
    """The sizes of MNIST's models; what the weights are does not matter for either."""
    images = np.zeros((400, 28, 28, 1), np.uint8)
    images[:, 8:20, 13:15] = 255
    model = mv.VAE((28, 28, 1), mv.Stream(0), arch=arch)
    file = shown(browser, [Look(arch, model, mv.data.Dataset("bars", images, None, images, None))], tmp_path)
    rate, size = browser.run(RATE), file.stat().st_size / 1e6
    with capsys.disabled():
        print(f"\n{arch}: a page of {size:.1f} MB decodes {rate:.0f} pictures a second")
    assert rate > 30
    assert size < (4 if arch == "dense" else 6)


def test_an_unlabelled_page_has_no_labels(browser, tmp_path):
    data = mv.data.Dataset("plain", to_float(DATA.train_images), None, to_float(DATA.test_images), None)
    shown(browser, [Look("plain", trained(mv.VAE(DATA.image_shape, mv.Stream(0), latent=2, hidden=(16,)), data), data)], tmp_path)
    assert browser.run("document.querySelector('#labels').hidden") is True
    assert browser.run("document.querySelector('#panel-runs').hidden") is True
    assert browser.complaints() == []
    browser.run("setTimeout(() => { throw new Error('planted') })")
    browser.until("document.querySelector('#trouble').textContent.includes('planted')")  # an error is no blank page
