"""The page as people use it: in a real Chromium, with mouse, finger and keyboard; and what it must never do."""

import json
import re
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

import minivae as mv
from minivae.cli import main
from minivae.data import to_float
from minivae.explorer import Server, look_at, page
from minivae.explorer.page import WEB, bundle
from minivae.quadrature import log_marginal

from .chromium import Chromium
from .test_parity import strokes

NAME = "<img src=x onerror=alert(1)> run"  # what a hostile folder is called


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of two latents on strokes with labels, in a folder whose name is HTML."""
    home = tmp_path_factory.mktemp("explorer")
    data = strokes(300)
    np.savez(home / "strokes.npz", x_train=data.train_images, y_train=data.train_labels, x_test=data.test_images, y_test=data.test_labels)
    arguments = ["train", home / "strokes.npz", "--epochs", "2", "--hidden", "16", "--latent", "2", "--out", home / NAME]
    assert main([str(argument) for argument in arguments]) == 0
    return home / NAME


@pytest.fixture(scope="module")
def browser(folder):
    (folder.parent / "page.html").write_text(page([look_at(folder)]), "utf-8")
    with Chromium() as chromium:
        yield chromium


@pytest.fixture
def opened(browser, folder):
    browser.open((folder.parent / "page.html").as_uri())
    return browser


def z(browser):
    browser.settle()
    return browser.run("Array.from(window.minivae.state.z)")


def test_no_two_modules_declare_the_same_name():
    """They become one program, in which a second declaration is an error."""
    names = re.findall(r"^(?:async )?(?:const|let|function|class) (\w+)", bundle("main.js"), re.MULTILINE)
    assert len(names) > 100
    assert sorted(set(names)) == sorted(names)
    assert {file.name for file in WEB.glob("*.js")} == set(re.findall(r"^// --- (\w+\.js)$", bundle("main.js"), re.MULTILINE))


def test_the_page_fetches_nothing_and_a_name_is_text(opened):
    assert opened.complaints() == []
    assert [url for url in opened.requests() if not url.startswith(("file:", "data:", "about:", "blob:"))] == []
    assert opened.run("document.querySelector('h1, #title').textContent") == NAME
    assert opened.run("document.querySelectorAll('img').length") == 0


def test_the_point_is_dragged_touched_and_moved_by_keys(opened):
    before = z(opened)
    opened.drag("#map", (0.5, 0.5), (0.3, 0.7))
    dragged = z(opened)
    assert max(dragged) < 0
    assert dragged != before
    opened.run("document.querySelector('#map').focus()")
    opened.key("ArrowRight")
    assert z(opened)[0] > dragged[0]
    opened.key("ArrowUp", shift=True)
    assert z(opened)[1] > dragged[1]
    opened.resize(400, 800, mobile=True)
    opened.touch("#map", (0.5, 0.5), (0.8, 0.2))
    assert min(z(opened)) > 0
    opened.resize(1280, 900)
    assert opened.complaints() == []


def test_a_slider_moves_its_latent_and_the_picture_follows(opened):
    picture = "document.querySelector('#picture').toDataURL()"
    before, point = opened.run(picture), z(opened)
    opened.run("const s = document.querySelector('#sliders input'); s.value = 2.5; s.dispatchEvent(new Event('input', {bubbles: true}))")
    after = z(opened)
    assert sorted(np.array(after) != np.array(point)) == [False, True]
    assert 2.4 < max(after) < 2.6
    assert opened.run(picture) != before


def test_what_is_drawn_is_encoded(opened):
    before = z(opened)
    opened.drag("#pad", (0.2, 0.2), (0.5, 0.5), (0.8, 0.8))
    opened.until(f"JSON.stringify(Array.from(window.minivae.state.z)) !== {json.dumps(json.dumps(before))}")
    assert opened.complaints() == []
    opened.click("#pad-clear")
    assert opened.complaints() == []


def test_a_view_is_kept_in_the_address(opened, folder):
    opened.drag("#map", (0.5, 0.5), (0.7, 0.4))
    point = z(opened)
    opened.until("location.hash.includes('z=')")
    opened.until(f"location.hash.includes('z={round(point[0], 3):g}')")
    address = opened.run("location.href")
    opened.open(address)
    np.testing.assert_allclose(z(opened), point, atol=6e-4)


def test_samples_the_exact_posterior_and_a_saved_picture(opened, folder, tmp_path):
    shown = "document.querySelectorAll('#samples canvas').length"
    assert opened.run(shown) > 8
    opened.click("#sample")
    opened.click("#exact-go")
    opened.until("document.querySelector('#e-gap').textContent !== ''")
    log_p, elbo, gap = (
        float(opened.run(f"document.querySelector('#e-{name}').textContent").replace("\u2212", "-")) for name in ("logp", "elbo", "gap")
    )
    look = look_at(folder)
    exact = log_marginal(look.model, to_float(look.data.test_images[:1])).log_p[0]
    assert log_p == pytest.approx(exact, rel=2e-3)  # as near as the page's weights are: test_parity.py
    assert elbo < log_p
    assert gap == pytest.approx(log_p - elbo, abs=0.011)  # two decimals each
    opened.downloads(tmp_path)
    opened.click("#save")
    end = time.monotonic() + 30
    while not (saved := list(tmp_path.glob("*.png"))):
        assert time.monotonic() < end, "no picture was saved"
        opened.settle()
    assert saved[0].read_bytes().startswith(b"\x89PNG")


UNLABELLED = """
[...document.querySelectorAll("main input, main select, main button, main canvas")].filter((e) => !(
  e.tagName === "CANVAS" && e.closest("button, [aria-hidden]") || e.closest("[hidden]") || e.getAttribute("aria-label")
  || (e.labels && e.labels.length) || e.textContent.trim() || e.title || e.hasAttribute("aria-describedby")
)).map((e) => e.outerHTML.slice(0, 200))
"""


@pytest.mark.parametrize("width", [400, 1600])
def test_nothing_is_wider_than_the_window(opened, width):
    opened.resize(width, 900)
    opened.settle()
    assert opened.run("document.documentElement.scrollWidth") <= width
    opened.dark(True)
    dark = opened.run("getComputedStyle(document.body).color")
    opened.dark(False)
    assert opened.run("getComputedStyle(document.body).color") != dark
    opened.resize(1280, 900)
    assert opened.run(UNLABELLED) == []


def test_weights_that_are_no_numbers_get_a_sentence(folder):
    look = look_at(folder)
    look.model.parameters()[0].data[0] = np.nan
    with pytest.raises(mv.MinivaeError, match="finite"):
        page([look])


def test_the_server_shows_one_run_and_no_file(folder):
    server = Server(folder)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        text = urllib.request.urlopen(server.url, timeout=30).read().decode()
        assert "connect-src" in text
        assert json.loads(urllib.request.urlopen(server.url + "news", timeout=30).read())["epochs"] == 2
        for path in ("config.json", "../strokes.npz", "%2e%2e/strokes.npz"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(server.url + path, timeout=30)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(urllib.request.Request(server.url, headers={"Host": "evil.example"}), timeout=30)
    finally:
        server.stop()


def test_the_command_writes_the_page(folder, capsys, tmp_path):
    assert main(["explore", str(folder), "--out", str(tmp_path / "page.html"), "--no-open"]) == 0
    assert "MB, to be opened in a browser" in capsys.readouterr().out
    assert (tmp_path / "page.html").stat().st_size < 4e6
    assert main(["explore", str(folder), str(folder), "--serve"]) == 2
    assert "--serve shows one run, and 2 were given" in capsys.readouterr().err
