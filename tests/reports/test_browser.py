"""The page in a real browser, where there is one: no errors, nothing fetched, nothing cut off."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from html import escape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeconv.reports.html import render_html
from tests.reports.samples import reports_with_layers

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BROWSER, reason="there is no Chromium"),
]


def browse(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    home = page.parent / "home"
    home.mkdir(exist_ok=True)
    command = [
        BROWSER,
        *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
        *("--disable-background-networking", "--disable-component-update", "--no-first-run"),
        *("--disable-sync", "--disable-default-apps", "--enable-logging=stderr", "--v=0"),
        f"--user-data-dir={home}",
        *options,
        page.as_uri(),
    ]
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, "HOME": str(home)},
        )
    except subprocess.TimeoutExpired:
        pytest.skip("the browser does not answer on this machine")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    images = np.random.default_rng(0).random((2, 1, 3, 16, 16), np.float32)
    scores = np.random.default_rng(0).random((2, 1, 10), np.float32)
    manifest, parity = reports_with_layers(40)
    outputs = {"picture": images, "score": scores}
    path.write_text(render_html(manifest, parity, {"image": images}, outputs, outputs))
    return path


# Browsers have no window as narrow as a phone, but frames; what one measures goes into the title.
_FRAME = """<!doctype html><body><iframe id="f" style="border:0;width:{width}px;height:2000px"
srcdoc="{page}"></iframe><script>f.onload = () => {{
const root = f.contentDocument.documentElement;
document.title = ["measured", root.clientWidth, root.scrollWidth,
...Array.from(f.contentDocument.querySelectorAll(".scroll"), e => e.scrollWidth - e.clientWidth)
].join(" ") }}</script>"""


def measured(page: Path, width: int) -> list[int]:
    """Return the width of the page, that of its content, and what each table is too wide by."""
    frame = page.with_name("frame.html")
    frame.write_text(_FRAME.format(width=width, page=escape(page.read_text())))
    done = browse(frame, "--dump-dom", "--virtual-time-budget=5000")
    found = re.search(r"<title>measured ([\d ]+)</title>", done.stdout)
    assert found, done.stderr
    return [int(number) for number in found[1].split()]


@pytest.mark.parametrize("width", [390, 320, 1280])
def test_nothing_scrolls_sideways_on_a_phone_or_a_desktop(page: Path, width: int) -> None:
    inner, content, *tables = measured(page, width)
    assert inner == width
    assert content == width
    assert tables
    assert max(tables) == 0


def test_what_is_too_wide_would_be_seen(page: Path) -> None:
    page.write_text(page.read_text().replace("<h2>", '<h2><p style="width:900px">x</p>', 1))
    assert measured(page, 390)[1] > 390


def test_it_renders_without_errors_and_without_requests(page: Path) -> None:
    log = page.parent / "net.json"
    done = browse(page, "--dump-dom", f"--log-net-log={log}")
    assert "</html>" in done.stdout, done.stderr
    assert "<svg" in done.stdout
    assert "CONSOLE" not in done.stderr, done.stderr
    assert done.returncode == 0
    assert not requests(log)


def test_a_request_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text('<img src="http://127.0.0.1:9/x.png">')
    log = tmp_path / "net.json"
    browse(page, "--dump-dom", f"--log-net-log={log}")
    assert requests(log)


def requests(log: Path) -> list[str]:
    """Return what was asked for, but for what the browser itself asks its maker for."""
    urls = re.findall(r'"url":"(https?:[^"]*)"', log.read_text())
    own = re.compile(r"https?://([^/]*\.)?(google|googleapis|gstatic|gvt1)\.com/")
    return [url for url in urls if not own.match(url)]


@pytest.mark.parametrize("width", [1280, 500])
def test_it_fits_the_width_in_light_and_dark(page: Path, width: int) -> None:
    shades = []
    for scheme in (1, 0):
        shot = page.parent / f"{width}-{scheme}.png"
        browse(
            page,
            f"--screenshot={shot}",
            f"--window-size={width},900",
            f"--blink-settings=preferredColorScheme={scheme}",
        )
        with Image.open(shot) as image:
            pixels = np.asarray(image.convert("L"), np.float32)
        assert pixels.shape[1] == width
        assert pixels.std() > 5
        # Nothing runs out of the page: its right edge has the colour of the background.
        assert len(np.unique(pixels[:, -2:])) == 1
        shades.append(float(np.median(pixels)))
    assert shades[0] > 200
    assert shades[1] < 60
