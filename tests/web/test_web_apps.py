"""Apps in a browser: what each may do, installing with eyes open, a new process; and that all can use it."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import Serving
from visiting import Visit

from twofold import devices
from twofold.apps import installing, shelf, signing, store
from twofold.base import home
from twofold.kernel.minds.script import Script
from twofold.kernel.policy import Rules
from twofold.kernel.system import System
from twofold.serve.desktop import Desktop

MODELS = ("box",)
MORE = '[[capabilities]]\ndevice = "files"\nfunctions = ["read"]\nscope = ["/notes/*"]\nwhy = "reads notes"\n'
SUM = {"calls": [{"name": "calculator", "arguments": {"expression": "12*7"}}]}
SHOTS = os.environ.get("TWOFOLD_SHOTS", "")  # where to put pictures of what was tested


@pytest.fixture
def shop(web: Serving, tmp_path: Path) -> Iterator[Path]:
    """Give a store with sums 0.1.0 and 0.2.0, of which the second may more and fails its test."""
    key, into = signing.own_key(tmp_path / "key.pem"), tmp_path / "store"
    folder = installing.starter("sums", tmp_path)
    store.publish(folder, into, key)
    path, test = folder / "app.toml", folder / "tests" / "sum.toml"
    path.write_text(path.read_text().replace("0.1.0", "0.2.0") + MORE)
    test.write_text(test.read_text().replace("is 84.", "is 85."))
    store.publish(folder, into, key)
    settings = home.data_folder() / "apps.toml"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(f"store = {json.dumps(str(into))}\n")
    yield into
    settings.unlink()
    shutil.rmtree(shelf.folder(), ignore_errors=True)


@pytest.fixture
def system(web: Serving, tmp_path: Path) -> Iterator[System]:
    """Give a system whose minds calculate."""
    found = System(
        tmp_path / "os", minds=lambda name: Script([SUM, "It is **84**."] * 3), policy=Rules(),
        devices=devices.opened(["calculator", "clock", "ask", "plot"]), workers=1,
    )  # fmt: skip
    web.state.extras["desktop"] = Desktop(tmp_path / "os", found)
    yield found
    del web.state.extras["desktop"]
    found.close()


def test_an_app_is_looked_at_granted_updated_tried_and_removed(
    visit: Any, shop: Path, system: System
) -> None:
    page = visit.open("apps")
    page.get_by_text("In the store: 2").press("Enter")
    page.get_by_role("button", name="Look at sums 0.1.0").click()
    page.get_by_role("heading", name="sums 0.1.0").wait_for()
    seen = page.locator(".seen")
    assert "calculator: everything; anywhere works out what you ask" in seen.inner_text()
    assert "passed:" in seen.inner_text()
    assert "sums" not in shelf.names()
    seen.get_by_role("button", name="Grant this and install it").click()
    page.get_by_text("sums 0.1.0 is installed.").wait_for()
    card = page.get_by_role("article")
    card.get_by_role("heading", name="sums 0.1.0").wait_for()
    assert signing.fingerprint(str(shelf.trust().known("sums"))) in card.inner_text()
    # The next version may more, which is shown against what is there; and it fails its test.
    page.get_by_role("button", name="Look at sums 0.2.0").click()
    page.get_by_role("heading", name="sums 0.2.0, now 0.1.0").wait_for()
    (new,) = seen.locator("li.more").all_inner_texts()
    assert "new:" in new
    assert "files: read; on /notes/*" in new
    install = seen.get_by_role("button", name="Grant this and install it")
    assert install.is_disabled()
    seen.get_by_label("Install it although it fails its own tests").check()
    install.click()
    page.get_by_text("sums 0.2.0 is installed.").wait_for()
    card.get_by_role("button", name="Tests (1)").click()
    card.get_by_role("button", name="Run them").click()
    card.get_by_text("0 of 1 passed").wait_for()
    page.once("dialog", lambda dialog: dialog.accept())
    card.get_by_role("button", name="Remove").click()
    page.get_by_text("There is no app called sums here.").wait_for()
    assert "sums" not in shelf.names()


def test_a_process_is_begun_by_keyboard_from_its_app(visit: Any, system: System) -> None:
    page = visit.open("apps/tutor")
    page.get_by_role("button", name="New process").press("Enter")
    page.get_by_label("What it is to do").wait_for()
    page.keyboard.type("What is 12 times 7?")
    page.get_by_label("Model", exact=True).select_option("box")
    page.get_by_text("What it may spend").press("Enter")
    page.get_by_label("Tokens").fill("5000")
    page.get_by_label("Tokens").press("Enter")
    page.get_by_text("It is 84.").wait_for()
    (state,) = system.processes()
    assert page.url.endswith(f"#/processes/{state.pid}")
    assert (state.program.app, state.program.model, state.program.budget.tokens) == ("tutor", "box", 5000)
    # Without an app, from the page of processes.
    page.get_by_role("button", name="New process").click()
    page.get_by_label("What it is to do").fill("And 12 times 8?")
    page.get_by_label("clock", exact=True).uncheck()
    page.get_by_role("button", name="Begin").click()
    page.get_by_role("heading", name="And 12 times 8?").wait_for()
    plain = system.processes()[-1].program
    assert [one.device for one in plain.capabilities] == ["calculator"]


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (3840, "dark")])
def test_apps_have_no_serious_barrier_and_do_not_scroll_sideways(
    browser: Any, web: Serving, shop: Path, system: System, axe: str, width: int, scheme: str
) -> None:
    with installing.proposed("sums@0.1.0") as proposal:
        proposal.accept()
    visit = Visit(browser, web, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = visit.open("apps/researcher")
    card = page.get_by_role("article")
    barriers = {}

    def judge(view: str) -> None:
        page.wait_for_timeout(100)  # for colours that change slowly
        page.evaluate(axe)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        serious = [one for one in found if one["impact"] in ("serious", "critical")]
        if serious:
            barriers[view] = [(one["id"], one["nodes"][0]["html"][:200]) for one in serious]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
        assert page.evaluate("(m => m.scrollWidth <= m.clientWidth)(document.querySelector('main'))"), view
        if SHOTS:
            page.screenshot(path=f"{SHOTS}/apps-{view}-{width}-{scheme}.png", full_page=True)

    for view in ("Rights", "Tools", "Tests"):
        card.get_by_role("button", name=view).click()
        judge(view)
    page.get_by_text("In the store: 2").click()
    judge("store")
    page.get_by_role("button", name="Look at sums 0.2.0").click()
    page.get_by_role("heading", name="sums 0.2.0, now 0.1.0").wait_for()
    judge("install")
    visit.open("processes")
    page.get_by_role("button", name="New process").click()
    page.get_by_label("clock", exact=True).wait_for()
    page.get_by_text("What it may spend").click()
    judge("new")
    visit.context.close()
    assert not barriers
    assert not visit.wrongs
