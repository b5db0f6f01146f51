"""Models, arena, labelling desk and runs in a browser, by the real server; and that all can use them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from serving import Serving
from visiting import Visit

PAGES = ("chat", "models", "arena", "labels/correct", "labels/compare", "labels/kept", "runs")


def test_a_local_file_is_pulled_talked_to_and_removed(visit: Any, root: Path) -> None:
    page = visit.open("models")
    page.get_by_role("heading", name="box", exact=True).wait_for()
    page.get_by_label("Fetch a model").fill(str(root / "tests" / "golden" / "model.gguf"))
    page.get_by_role("button", name="Look").click()
    page.get_by_text("Nothing to download").wait_for()
    assert "tokens a second on this machine" in page.locator(".plan").inner_text()
    name = page.locator(".plan h2").inner_text()
    page.get_by_role("button", name="Fetch it").click()
    page.get_by_text(f"{name} is here.").wait_for()
    mine = page.locator("li").filter(has=page.get_by_role("heading", name=name, exact=True))
    assert "tokens/s predicted" in mine.inner_text()
    mine.get_by_role("button", name="Talk to it").click()
    page.get_by_placeholder(f"Message {name}").wait_for()
    visit.open("models")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name=f"Remove {name}").click()
    mine.wait_for(state="detached")


def test_what_cannot_be_pulled_is_told_in_a_sentence(visit: Any, tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_bytes(b"no model")
    page = visit.open("models")
    page.get_by_label("Fetch a model").fill(str(tmp_path / "no.gguf"))
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    assert len(page.get_by_role("alert").inner_text()) > 20
    visit.wrongs = [wrong for wrong in visit.wrongs if "status of" not in wrong]


def test_a_blind_battle_becomes_a_rating(visit: Any) -> None:
    page = visit.open("arena")
    page.get_by_label("A question for both").fill("Hi!")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Left is better").and_(page.locator(":enabled")).wait_for()
    before = page.locator(".sides").inner_text()
    assert "box" not in before.splitlines()
    page.get_by_role("region", name="Left answer").click()
    page.keyboard.press("1")
    page.get_by_role("button", name="Another battle").wait_for()
    told = page.get_by_text("Left was").inner_text()
    revealed = set(re.fullmatch(r"Left was (.+), right was (.+)\.", told).groups())  # type: ignore[union-attr]
    assert len(revealed) == 2
    table = page.get_by_role("region", name="Ratings").get_by_role("table")
    table.wait_for()
    assert revealed <= set(table.locator("td.name").all_inner_texts())
    with page.expect_download() as download:
        page.get_by_role("button", name="Export the battles").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert json.loads(lines[-1])["verdict"] == "a"
    page.get_by_role("button", name="Another battle").press("Enter")
    page.get_by_label("A question for both").wait_for()


def test_a_battle_that_was_left_can_be_judged_later(visit: Any, web: Serving) -> None:
    answer = web.post("/twofold/arena/battle", {"prompt": "Who are you?", "max_tokens": 8})
    assert "finished" in answer.text
    page = visit.open("arena")
    page.get_by_text("One battle waits for a verdict.").wait_for()
    page.get_by_role("button", name="Judge it").click()
    page.get_by_role("heading", name="Who are you?").wait_for()
    page.get_by_role("button", name="Both are bad").click()
    page.get_by_role("button", name="Another battle").click()
    page.get_by_label("A question for both").wait_for()
    page.get_by_text("waits for a verdict").wait_for(state="detached")
    assert json.loads(web.http.get("/twofold/arena/battles.jsonl").text.splitlines()[-1])["verdict"] == "bad"


def test_labels_go_from_the_desk_into_the_export(visit: Any, web: Serving) -> None:
    page = visit.open("labels/kept")
    page.get_by_label("One a line").fill("What is the capital of Australia?\nWhat is two and two?")
    page.get_by_role("button", name="Add 2 questions").click()
    page.get_by_text("2 new").wait_for()
    visit.open("labels/correct")
    page.get_by_label("Labelling as").fill("desk-1")
    page.get_by_label("Labelling as").press("Tab")
    draft = page.get_by_label("Make it what it ought to be")
    draft.wait_for()
    asked = page.locator(".asked .words").inner_text()
    draft.fill("A corrected answer.")
    page.get_by_label("Why").fill("It was made up.")
    page.keyboard.press("Control+Enter")
    page.get_by_text("Kept.").wait_for()
    page.wait_for_function("asked => document.querySelector('.asked .words')?.innerText !== asked", arg=asked)
    page.get_by_text("So far 1 corrected").wait_for()
    visit.open("labels/kept")
    with page.expect_download() as download:
        page.get_by_role("button", name="Conversations, for twofold tune").click()
    lines = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
    assert [m["content"] for m in lines[-1]["messages"]] == [asked, "A corrected answer."]
    label = web.http.get("/twofold/labels").json()["labels"][-1]
    assert (label["who"], label["why"], label["model"]["name"]) == ("desk-1", "It was made up.", "box")


def bare(text: str) -> list[str]:
    """Return the words and numbers of an answer but for what Markdown makes a list of: those are no text."""
    return re.findall(r"\w+", re.sub(r"(?m)^\s*(\d+[.)]|[-*+])(\s+|$)", "", text))


def test_two_answers_are_compared_by_keyboard(visit: Any, web: Serving) -> None:
    page = visit.open("labels/compare")
    own = page.get_by_label("A question", exact=True)
    sides = page.get_by_role("button", name="This one is better")
    own.or_(sides.first).first.wait_for()
    if own.is_visible():
        own.fill("Tell me a story.")
        page.keyboard.press("Enter")
    sides.first.and_(page.locator(":enabled")).wait_for()
    worse, better = page.locator(".sides .markdown").all_inner_texts()
    page.locator(".asked").click()
    page.keyboard.press("2")
    page.get_by_text("Kept.").wait_for()
    label = web.http.get("/twofold/labels").json()["labels"][-1]
    assert label["kind"] == "compare"
    assert (bare(label["answer"]), bare(label["better"])) == (bare(worse), bare(better))
    assert label["answer"].strip() != label["better"].strip()


def test_correcting_in_the_chat_keeps_a_label(visit: Any, web: Serving) -> None:
    page = visit.ask("What is your favourite colour?")
    page.get_by_role("button", name="Correct").click()
    page.get_by_label("What it should have said").fill("I have none: I am a program.")
    page.get_by_role("button", name="Keep").click()
    page.get_by_text("2/2").wait_for()
    label = web.http.get("/twofold/labels").json()["labels"][-1]
    assert (label["kind"], label["better"]) == ("fix", "I have none: I am a program.")


def test_new_instructions_are_the_next_version(visit: Any) -> None:
    page = visit.open("labels/correct")
    page.get_by_role("heading", name="How to label").wait_for()
    page.get_by_role("button", name="Change", exact=True).click()
    page.get_by_label("Instructions, as Markdown").fill("# How to label here\n\nBe kind.")
    page.get_by_role("button", name="Keep as version 2").click()
    page.get_by_role("heading", name="How to label here").wait_for()
    page.get_by_text("Version 2").wait_for()


@pytest.fixture
def run(web: Serving) -> Path:
    """Return the metrics of a run in the folder that the server looks at."""
    path = Path("runs") / "nano" / "metrics.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = [
        {"step": step, "loss_nats": 9 / step, "tokens_per_s": 1000.0} for step in range(1, 300)
    ]
    records.append({"step": 299, "bits_per_byte": 2.5, "val_loss_nats": 3.0})
    records.append({"step": 299, "samples": [{"prompt": "<|endoftext|>Once", "text": " upon <b>a</b> time"}]})
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_a_run_is_watched_as_it_goes(visit: Any, run: Path) -> None:
    page = visit.open("runs")
    page.get_by_role("img", name="loss, nats").wait_for()
    assert page.locator("blockquote").inner_text() == "Once upon <b>a</b> time"
    with run.open("a") as file:
        file.write(json.dumps({"step": 300, "loss_nats": 0.01}) + "\n")
    page.get_by_role("img", name="at step 300").wait_for()
    curve = page.get_by_role("img", name="loss, nats")
    curve.focus()
    page.keyboard.press("Home")
    page.get_by_text("step 1: 9").wait_for()


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (3840, "dark")])
def test_no_page_has_a_serious_barrier_or_scrolls_sideways(
    browser: Any, web: Serving, axe: str, run: Path, width: int, scheme: str
) -> None:
    visit = Visit(browser, web, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = visit.ask("Hi!")
    page.get_by_role("button", name="Lens").click()
    page.locator("[data-cell]").first.click()
    barriers = {}
    for name in PAGES:
        if name != "chat":
            visit.open(name)
            page.wait_for_load_state("networkidle")
        page.evaluate(axe)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        serious = [one for one in found if one["impact"] in ("serious", "critical")]
        barriers |= {name: [(one["id"], one["nodes"][0]["html"][:200]) for one in serious]} if serious else {}
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        assert page.evaluate("(m => m.scrollWidth <= m.clientWidth)(document.querySelector('main'))"), name
    visit.context.close()
    assert not barriers
    assert not visit.wrongs
