"""The page of a store in a browser, as wide as a desk or a phone: no errors, and no requests to a network.

Run by `python -m pytest -m browser`, with chromium on the PATH.
"""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

import builder
from tests.builder.inspected_stores import SECTIONS, hostile_store, wide_store
from tests.builder.inspecting.test_page import Page

pytestmark = pytest.mark.browser
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-default-apps"),
    *("--disable-dev-shm-usage", "--enable-logging=stderr", "--hide-scrollbars"),
    # Any request for an address fails.
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
PHONE, DESK = 390, 1280
# A window cannot be as narrow as a phone, but a frame can. The page has no script, so a copy is measured.
FRAME = """<!doctype html><html><body>
<iframe src="measured.html" style="width: WIDTHpx; height: 900px; border: 0"></iframe>
<script>addEventListener("message", (event) => { document.documentElement.dataset.widths = event.data })</script>
</body></html>"""
RULER = "<script>parent.postMessage(`${innerWidth} ${document.documentElement.scrollWidth}`, '*')</script>"
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    dom: str
    console: tuple[str, ...]
    asked: frozenset[str]  # addresses other than files of this machine


def framed(text: str, folder: Path, width: int) -> Path:
    """Put a copy of a page that measures itself into a frame."""
    (folder / "measured.html").write_text(POLICY.sub("", text).replace("</body>", f"{RULER}</body>"))
    (folder / "frame.html").write_text(FRAME.replace("WIDTH", str(width)))
    return folder / "frame.html"


def widths(opened: Opened) -> tuple[int, int]:
    """Return the width of the frame, and of its content."""
    found = re.search(r'<html data-widths="([0-9]+) ([0-9]+)"', opened.dom)
    assert found, opened.dom[:500]
    return int(found[1]), int(found[2])


def browse(page: Path, folder: Path) -> Opened:
    browser = next((path for path in map(shutil.which, BROWSERS) if path), None)
    assert browser, f"no browser: looked for {', '.join(BROWSERS)} on PATH; apt-get install chromium"
    log = folder / "net.json"
    done = subprocess.run(
        [
            *(browser, *QUIET, f"--user-data-dir={folder / 'profile'}", f"--window-size={DESK},900"),
            *(f"--log-net-log={log}", "--virtual-time-budget=5000", "--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    console = tuple(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return Opened(dom=done.stdout, console=console, asked=_asked(log))


def _asked(log: Path) -> frozenset[str]:
    """Return the addresses that pages requested, from a log of the browser's network."""
    events = json.loads(log.read_text())["events"]
    asked = [event["params"] for event in events if "initiator" in event.get("params", {})]
    # Requests of the browser to its maker belong to no page.
    return frozenset(str(one["url"]) for one in asked if one["initiator"] != "not an origin")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    stores = {"hostile": hostile_store(folder / "hostile.zarr"), "wide": wide_store(folder / "wide.zarr")}
    for name, store in stores.items():
        builder.write_report(store, folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in stores}


@pytest.mark.parametrize("name", ["hostile", "wide"])
def test_a_browser_shows_all_sections_without_errors_or_requests(pages: dict[str, Path], name: str, tmp_path: Path):
    opened = browse(pages[name], tmp_path)
    assert opened.console == ()
    assert opened.asked == frozenset()
    page = Page(opened.dom.replace("<!DOCTYPE html>", ""))
    assert [one for one in page.ids if one in SECTIONS] == list(SECTIONS)
    assert page.tags & {"script", "img"} == set()


@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("name", ["hostile", "wide"])
def test_the_page_is_no_wider_than_the_screen(pages: dict[str, Path], name: str, width: int, tmp_path: Path):
    opened = browse(framed(pages[name].read_text(), tmp_path, width), tmp_path)
    assert opened.console == ()
    assert widths(opened) == (width, width)


def test_these_tests_find_each_fault(pages: dict[str, Path], tmp_path: Path):
    """A control: a page with each fault that the tests above should find."""
    faults = "<script>missing()</script><img src=https://example.org/x.png><p style='width:2000px'>wide</p>"
    text = pages["hostile"].read_text().replace("</body>", f"{faults}</body>")
    opened = browse(framed(text, tmp_path, PHONE), tmp_path)
    assert any("missing is not defined" in line for line in opened.console)
    assert opened.asked == {"https://example.org/x.png"}
    assert widths(opened)[1] > PHONE


def test_the_policy_of_the_page_permits_nothing_external(pages: dict[str, Path], tmp_path: Path):
    smuggled = tmp_path / "smuggled.html"
    text = pages["hostile"].read_text()
    smuggled.write_text(text.replace("</body>", "<script>document.title = 'x'</script><img src=https://example.org/>"))
    opened = browse(smuggled, tmp_path)
    assert opened.asked == frozenset()
    assert "<title>x</title>" not in opened.dom
    assert sum("Content Security Policy" in line for line in opened.console) == 2
