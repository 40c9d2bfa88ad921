"""Every page of the site in a browser, on a phone and a desk: `make test-site`.

The browser is CHROMIUM, or chromium, or the one that Playwright installs.
"""

import functools
import os
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urldefrag

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from lib.files import REPOSITORY

SITE = REPOSITORY / "site"
PAGES = [str(path.relative_to(SITE)) for path in sorted(SITE.rglob("*.html"))]
PAGES = [page for page in PAGES if not page.startswith(("_", "gen", "search"))]
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
IMAGES = """[...document.querySelectorAll('.bd-article img')]
    .filter(one => !one.naturalWidth || !one.alt.trim()).map(one => one.src)"""
WIDER = "document.documentElement.scrollWidth - innerWidth"


@pytest.fixture(scope="module")
def address():
    handler = functools.partial(SimpleHTTPRequestHandler, directory=SITE)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    found = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=found, args=QUIET)


def is_there(place, mark):
    """Tell whether a page of the site, and the part that a link names, exist."""
    path = SITE / unquote(place)
    return path.is_file() and (not mark or f'id="{mark}"' in path.read_text("utf-8"))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_read(browser, address, name):
    page, said = browser.new_page(), []
    page.on("console", lambda message: said.append((message.type, message.text)))
    page.on("pageerror", lambda error: said.append(("error", str(error))))
    for width in (375, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(address + name, wait_until="load")
        page.wait_for_timeout(1500)  # for formulas and drawings
        assert page.evaluate(WIDER) <= 0, f"it scrolls sideways at {width} pixels"
    # Before axe, which looks for style sheets in the wrong place.
    faults = [text for kind, text in said if kind == "error"]
    faults += [f"image {source}" for source in page.evaluate(IMAGES)]
    raw = page.locator("mjx-merror, .math:not(:has(mjx-container)), .highlight-mermaid")
    faults += [f"not drawn: {text}" for text in raw.all_inner_texts()]
    for link in page.evaluate("[...document.links].map(link => link.href)"):
        url, mark = urldefrag(link)
        own = url.startswith(address)
        if own and not is_there(url.removeprefix(address), mark):
            faults.append(f"link {link}")
    for found in Axe().run(page).response["violations"]:
        if found["impact"] in ("serious", "critical"):
            faults.append(f"{found['id']}: {found['nodes'][0]['html'][:120]}")
    page.close()
    assert not faults, "\n".join(["", *faults])


def test_the_search_and_a_quiz_work(browser, address):
    page = browser.new_page()
    page.goto(f"{address}search.html?q=dilation", wait_until="load")
    page.wait_for_selector("#search-results li a", timeout=10_000)
    page.goto(f"{address}notebooks/02_train.html", wait_until="load")
    choice = page.locator("#quiz details").first
    choice.locator("summary").click()
    assert choice.locator("p").first.is_visible()
