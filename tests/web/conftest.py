"""A browser, where this machine has one, and the web app in it as people see it."""

import shutil
import time
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest
from serving import Serving, serve, teach
from tiny_models import random_model
from visiting import Visit

from twofold import parameters

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Return Chromium, as Playwright drives it; skip where one of the two is missing.

    Not for longer than a module: while it is open, an event loop runs in this thread, and no other test of
    the process may start its own.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        # Its own sandbox cannot be made in most containers; the pages are our own.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def web(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Return a server with a data folder of its own, of the MODELS that the test's module names.

    By default of all there is: the model in the box, a run "tiny", and what is pulled.
    """
    home = tmp_path_factory.mktemp("home")
    tiny = home / "runs" / "tiny"
    tiny.mkdir(parents=True)
    parameters.save_gguf(random_model("qwen3", context=512), tiny / "model.gguf", "F32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(home))
        patch.chdir(home)  # runs/ is looked for in the folder one is in
        with serve(*getattr(request.module, "MODELS", ())) as running:
            yield running


@pytest.fixture
def visit(browser: Any, web: Serving) -> Iterator[Visit]:
    """Return a visit of 1280 by 900 pixels; fails if anything left this machine or went wrong in the page."""
    visit = Visit(browser, web, viewport={"width": 1280, "height": 900})
    yield visit
    visit.context.close()
    assert not visit.wrongs


@pytest.fixture
def says(web: Serving) -> Any:
    """Return a function that makes "parrot", a model, say a text, each token after such a pause."""

    def say(text: str, pause_s: float = 0) -> str:
        teach(web.state, "parrot", text, context=8192)
        runner = web.served("parrot").engine.runner
        at_once = runner.forward

        def forward(*batch: Any) -> Any:
            time.sleep(pause_s)
            return at_once(*batch)

        runner.forward = forward
        return "parrot"

    return say


@pytest.fixture(scope="session")
def axe() -> str:
    """Return the program that judges a page's accessibility: axe-core, as a Python package brings it."""
    package = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    return (resources.files(package) / "axe.min.js").read_text(encoding="utf-8")
