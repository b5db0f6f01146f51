"""The desktop of processes in a browser: its trace, approvals, the memory, files; and that all can use it."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp_offering import Desk
from serving import Serving
from visiting import Visit

from twofold.kernel.capabilities import Capability
from twofold.kernel.minds.script import Script
from twofold.kernel.policy import Rules
from twofold.kernel.process import Program
from twofold.kernel.system import System
from twofold.serve.desktop import Desktop

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000"
    "050001a5f645400000000049454e44ae426082"
)
DRAW = {"text": "I **draw** it first.", "calls": [{"name": "desk_draw", "arguments": {}}]}
SEND = {"calls": [{"name": "desk_send", "arguments": {"text": "The figures:\n\n" + "12.5 million " * 30}}]}
SHOTS = os.environ.get("TWOFOLD_SHOTS", "")  # where to put pictures of what was tested
VIEWS = ("Trace", "Memory", "Files", "Rights")


class Easel(Desk):
    """A desk whose drawings are pictures."""

    def call(self, function: str, arguments: Any, context: Any) -> Any:
        found = super().call(function, arguments, context)
        if function == "draw":
            (context.workspace / "dot.png").write_bytes(PIXEL)
        return found


Spawn = Callable[..., int]


@pytest.fixture
def easel() -> Easel:
    return Easel()


@pytest.fixture
def system(visit: Visit, web: Serving, tmp_path: Path, easel: Easel) -> Iterator[System]:
    """Give the system whose processes the web app shows."""
    script = Script([DRAW, SEND, "It is **sent**.", *["Yes."] * 9])
    found = System(tmp_path, minds=lambda name: script, devices={"desk": easel}, policy=Rules(), workers=1)
    web.state.extras["desktop"] = Desktop(tmp_path, found)
    yield found
    visit.page.close()  # it asks again and again, and would be told that there is no such process
    del web.state.extras["desktop"]
    found.close()


def spawned(system: System, **more: Any) -> int:
    """Return a process that has drawn, and wants to send what it read."""
    shown = {"shown": ("desk",), "capabilities": (Capability(device="desk"),), **more}
    pid = system.spawn(Program(message="Draw the figures and send them.", app="researcher", **shown))
    system.run(seconds=20)
    assert system.state(pid).asks is not None
    return pid


def test_an_approval_shows_all_that_flows_and_the_trace_goes_on(
    visit: Any, system: System, easel: Easel
) -> None:
    pid = spawned(system)
    page = visit.open("processes")
    ask = page.get_by_role("region", name="May it call desk_send?")
    ask.wait_for()
    assert ask.inner_text().count("12.5 million") == 30  # nothing is cut short
    assert page.get_by_role("status").inner_text() == "waiting for you"
    page.get_by_role("button", name="Allow once").click()
    page.get_by_text("Done", exact=True).wait_for()
    trace = page.get_by_role("list", name="Trace")
    assert trace.locator("strong").all_inner_texts() == ["draw", "sent"]
    assert "You allowed it once" in trace.inner_text()
    assert len(easel.sent) == 1
    page.get_by_role("navigation", name="Processes").get_by_text("exited: done").wait_for()
    assert system.state(pid).exit == "done"


def test_no_is_no_and_what_is_said_is_heard(visit: Any, system: System, easel: Easel) -> None:
    pid = spawned(system, stays=True)
    page = visit.open(f"processes/{pid}")
    page.get_by_role("button", name="No", exact=True).click()
    page.get_by_label("Say something to it").wait_for()
    assert not easel.sent
    page.get_by_label("Say something to it").fill("Are you there?")
    page.keyboard.press("Enter")
    page.get_by_text("Yes.").wait_for()
    page.get_by_text("Are you there?").wait_for()
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("button", name="Pause").wait_for()
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="End").click()
    page.get_by_text("Ended: killed").wait_for()


def test_children_stand_behind_their_parent(visit: Any, system: System) -> None:
    pid = spawned(system)
    child = system.spawn(Program(message="Read the page."), parent=pid)
    system.run(seconds=20)
    page = visit.open("processes")
    listed = page.get_by_role("navigation", name="Processes")
    listed.get_by_text("1 child", exact=False).wait_for()
    assert listed.get_by_text("Read the page.").count() == 0
    visit.open(f"processes/{child}")
    listed.get_by_text("Read the page.").wait_for()
    assert f"child of {pid}" in listed.inner_text()


def test_a_fork_goes_on_from_any_event(visit: Any, system: System) -> None:
    pid = spawned(system)
    page = visit.open(f"processes/{pid}")
    page.get_by_role("button", name="fork after event 1", exact=True).click()
    page.get_by_text("Forked from process 1 after event 1").wait_for()
    end = time.monotonic() + 20
    while len(system.processes()) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    assert [one.pid for one in system.processes()] == [pid, pid + 1]
    assert page.url.endswith(f"#/processes/{pid + 1}")


def test_the_memory_is_seen_pinned_and_changed(visit: Any, system: System) -> None:
    pid = spawned(system)
    page = visit.open(f"processes/{pid}")
    page.get_by_role("button", name="Memory").click()
    page.get_by_role("img", name="The window").wait_for()
    first = system.state(pid).pages[0].id
    page.get_by_role("button", name=first, exact=True).click()
    page.get_by_text("the user said it").wait_for()
    page.get_by_role("button", name="Pin").click()
    page.get_by_role("button", name="Unpin").wait_for()
    assert system.state(pid).pages[0].pinned
    page.get_by_role("button", name="Change", exact=True).click()
    page.get_by_label("What the page says from now on").fill("Send nothing.")
    page.get_by_role("button", name="Keep", exact=True).click()
    page.get_by_text("event", exact=False).first.wait_for()
    page.locator(".whole", has_text="Send nothing.").wait_for()
    assert system.state(pid).pages[0].text == "Send nothing."
    page.get_by_role("button", name="Take it out").wait_for()


def test_files_are_shown_and_kept(visit: Any, system: System) -> None:
    pid = spawned(system)
    page = visit.open(f"processes/{pid}")
    page.get_by_role("button", name="Files (1)").click()
    page.get_by_role("button", name="Show dot.png").click()
    page.get_by_role("img", name="dot.png").wait_for()
    assert page.evaluate("document.querySelector('img').naturalWidth") == 1
    with page.expect_download() as download:
        page.get_by_role("button", name="Keep a copy of dot.png").click()
    assert Path(download.value.path()).read_bytes() == PIXEL


def test_words_of_strangers_are_text_and_nothing_else(visit: Any, system: System) -> None:
    evil = "<img src=x onerror=alert(1)> <b>bold</b>"
    pid = system.spawn(Program(message=evil))
    page = visit.open(f"processes/{pid}")
    page.get_by_role("heading", name=evil).wait_for()
    assert page.locator("main img").count() == 0


@pytest.mark.parametrize(
    ("width", "scheme"), [(400, "light"), (400, "dark"), (1280, "light"), (1280, "dark")]
)
def test_processes_have_no_serious_barrier_and_do_not_scroll_sideways(
    browser: Any, web: Serving, system: System, axe: str, width: int, scheme: str
) -> None:
    pid = spawned(system, stays=True)
    system.spawn(
        Program(message="Another one, which has more to say than fits into two lines of the list " * 3)
    )
    visit = Visit(browser, web, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = visit.open(f"processes/{pid}")
    page.get_by_role("button", name="Allow once").wait_for()
    barriers = {}
    for view in VIEWS:
        page.get_by_role("navigation", name="Of this process").get_by_role("button", name=view).click()
        if view == "Memory":
            page.locator("tbody .bare").first.click()
            page.get_by_text("Why is it here?").wait_for()
        page.wait_for_timeout(100)  # for colours that change slowly
        page.evaluate(axe)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        serious = [one for one in found if one["impact"] in ("serious", "critical")]
        barriers |= {view: [(one["id"], one["nodes"][0]["html"][:200]) for one in serious]} if serious else {}
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
        assert page.evaluate("(m => m.scrollWidth <= m.clientWidth)(document.querySelector('main'))"), view
        if SHOTS:
            page.screenshot(path=f"{SHOTS}/{view}-{width}-{scheme}.png", full_page=True)
    visit.context.close()
    assert not barriers
    assert not visit.wrongs
