"""The chat and the token lens in a browser, against the real server."""

import json
from pathlib import Path
from typing import Any

import pytest
from serving import serve
from visiting import Visit

from twofold.tokens.conversation import check

MODELS = ("box",)


def answer(page: Any) -> Any:
    """Return the last answer on the page."""
    return page.locator("article:not(.mine)").last


def test_an_answer_is_kept_in_this_browser(visit: Any) -> None:
    page = visit.ask("Tell me a story.")  # of ten tokens and more: the rate of fewer is not shown
    said = answer(page).locator(".markdown").inner_text()
    assert said.strip()
    assert "tokens/s" in answer(page).inner_text()
    page.wait_for_function("indexedDB.databases().then(all => all.length)")
    page.wait_for_timeout(800)  # kept a moment after the last token
    page.reload()
    page.get_by_role("complementary", name="Conversations").get_by_role(
        "button", name="Tell me a story.", exact=True
    ).click()
    assert answer(page).locator(".markdown").inner_text() == said


def test_stopping_ends_the_answer_and_going_on_continues_it(visit: Any, says: Any) -> None:
    text = " ".join(f"{number} sheep," for number in range(1, 30))
    model = says(text, pause_s=0.02)
    page = visit.open()
    page.get_by_label("Model", exact=True).select_option(model)
    page.get_by_label("Message", exact=True).fill("Count")
    page.keyboard.press("Enter")
    answer(page).get_by_text("3 sheep").wait_for()
    page.keyboard.press("Escape")
    answer(page).get_by_text("stopped").wait_for()
    before = answer(page).locator(".markdown").inner_text()
    assert text.startswith(before.strip())
    assert len(before) < len(text)
    says(text)  # in no hurry any more
    answer(page).get_by_role("button", name="Go on").click()
    answer(page).get_by_text("29 sheep").wait_for()
    assert answer(page).locator(".markdown").inner_text() == text
    assert page.locator("article").count() == 2


def test_editing_and_asking_again_make_branches(visit: Any) -> None:
    page = visit.ask("Hi!")
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Edit the message").fill("What is your name?")
    page.get_by_role("button", name="Send as a new branch").click()
    page.get_by_text("2/2").wait_for()
    page.get_by_role("button", name="Again", exact=True).click()
    answer(page).get_by_text("2/2").wait_for()
    page.get_by_role("button", name="Again", exact=True).wait_for()
    assert page.locator("article.mine p.words").inner_text() == "What is your name?"
    page.locator("article.mine").get_by_role("button", name="Previous branch").click()
    assert page.locator("article.mine p.words").inner_text() == "Hi!"
    page.locator("article.mine").get_by_role("button", name="Next branch").click()
    answer(page).get_by_text("2/2").wait_for()


def test_the_lens_shows_what_else_could_have_stood_there(visit: Any) -> None:
    visit.always_likeliest()
    page = visit.ask("Tell me a story.")
    text = answer(page).locator(".markdown").inner_text()
    page.get_by_role("button", name="Lens").click()
    cells = page.locator("[data-cell]")
    assert "".join(cells.all_text_contents()).replace("↵", "").strip() == text.replace("\n\n", "\n").strip()
    cells.nth(2).click()
    rows = page.locator(".alternatives li")
    shares = rows.locator(".share").all_inner_texts()
    assert len(shares) >= 8
    assert sum(float(s.removeprefix("< ").removesuffix(" %")) for s in shares) <= 101.0
    other = page.locator(".alternatives button:not(.taken)").nth(1)
    chosen = other.locator(".text").inner_text().replace("␣", " ").replace("↵", "\n")
    before = "".join(cells.nth(i).inner_text() for i in range(2))
    with page.expect_request("**/v1/chat/completions") as request:
        other.click()
    assert len(request.value.post_data_json["continue_tokens"]) == 3  # goes on by ids, so exactly
    answer(page).get_by_text("2/2").wait_for()
    page.get_by_role("button", name="Again", exact=True).wait_for()
    written = "".join(page.locator("[data-cell]").all_text_contents())
    assert written.startswith(before + chosen)
    assert page.locator("[data-cell].chosen").text_content() == chosen


def test_the_lens_is_reached_by_keyboard(visit: Any) -> None:
    page = visit.ask("Hi!")
    page.get_by_role("button", name="Lens").press("Enter")
    page.locator("[data-cell='0']").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.get_by_role("dialog", name="What could have stood here").wait_for()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.closest('.alternatives') !== null")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.dataset.cell") == "1"


def test_settings_and_files_reach_the_model(visit: Any, tmp_path: Path) -> None:
    sent: list[Any] = []
    visit.page.on("request", lambda r: r.method == "POST" and sent.append(json.loads(r.post_data)))
    page = visit.open()
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("System prompt").fill("Be short.")
    page.get_by_label("Temperature").fill("0.25")
    page.get_by_role("button", name="Done").click()
    (tmp_path / "notes.txt").write_text("The fox is red.\n")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff\0")
    page.get_by_label("Attach text files").set_input_files([tmp_path / "notes.txt", tmp_path / "picture.png"])
    page.get_by_text("picture.png is no text").wait_for()
    page.get_by_label("Message", exact=True).fill("What colour?")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Again", exact=True).wait_for()
    assert sent[0]["temperature"] == 0.25
    assert sent[0]["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "What colour?\n\nFile notes.txt:\n```\nThe fox is red.\n```"},
    ]


def test_conversations_go_out_and_come_back_as_a_conversation_file(visit: Any, tmp_path: Path) -> None:
    page = visit.ask("Hi!")
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Edit the message").fill("Bye!")
    page.keyboard.press("Enter")
    page.get_by_text("2/2").wait_for()
    page.get_by_role("button", name="Again", exact=True).wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export all").click()
    path = tmp_path / "out.jsonl"
    download.value.save_as(path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        read = check(line, "out.jsonl", "a line")  # as `twofold tune` reads it
        assert [message["role"] for message in read.messages] == ["user", "assistant"]
    assert len(lines) == 2
    page.get_by_label("Import a conversation file").set_input_files(path)
    page.get_by_text("1 conversation read").wait_for()
    page.get_by_text("1/2").wait_for()
    assert page.locator("article.mine p.words").inner_text() == "Bye!"
    (tmp_path / "bad.jsonl").write_text("{}\n")
    page.get_by_label("Import a conversation file").set_input_files(tmp_path / "bad.jsonl")
    page.get_by_text("Line 1 is no conversation").wait_for()


HOSTILE = [
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'><svg onload='window.hacked = 1'>",
    "[a](javascript:window.hacked=1) [b](data:text/html,<script>window.hacked=1</script>)",
    "<javascript:window.hacked=1>",
    "![pixel](https://example.invalid/p.png?secret) ![](//example.invalid/q)",
    "[x]: javascript:window.hacked=1\n\n[x] and [y][x]",
    '```html\n<img src=x onerror=window.hacked=1>\n```\n\n```"><img src=x onerror=window.hacked=1>\nx\n```',
    "| <img src=x onerror=window.hacked=1> | b |\n|---|---|\n| <b onclick=window.hacked=1>x</b> | `<i>` |",
    r"$\href{javascript:window.hacked=1}{x}$ $\class{x\" onmouseover=\"window.hacked=1}{y}$ ",
    r"$\text{<img src=x onerror=window.hacked=1>}$",
    "# <iframe src=https://example.invalid></iframe>\n\n> <form action=https://example.invalid><button>x</button></form>",
    "<style>@import 'https://example.invalid/x.css';</style><link rel=stylesheet href=https://example.invalid/y.css>",
    "> " * 60 + "deep",
    "&lt;img src=x onerror=window.hacked=1&gt; &#60;script&#62;window.hacked=1&#60;/script&#62;",
]


@pytest.mark.parametrize("lens", [False, True])
def test_hostile_answers_are_only_shown(visit: Any, says: Any, lens: bool) -> None:
    # One answer with everything: the page survives it, runs nothing, and asks nobody.
    page = visit.ask("Speak", says("\n\n".join(HOSTILE)))
    assert "cut at the limit" not in answer(page).inner_text()
    if lens:
        page.get_by_role("button", name="Lens").click()
    page.wait_for_timeout(300)
    made = (
        "script, img, svg, iframe, form[action], style, link, object, embed, [onclick], [onerror], [onload]"
    )
    assert page.locator(f"article:not(.mine) :is({made})").count() == 0
    assert page.evaluate("window.hacked") is None
    links = page.locator("article:not(.mine) a").evaluate_all("all => all.map(a => a.protocol)")
    assert set(links) <= {"https:"}
    for shown in (
        "<script>window.hacked = 1</script>",
        "deep",
        "&lt;img" if lens else "<img src=x onerror=window.hacked=1>",
    ):
        assert shown in answer(page).inner_text()


def test_thoughts_stand_apart(visit: Any, says: Any) -> None:
    page = visit.ask("2 + 2?", says("<think>\nTwo and two.\n</think>\n\nIt is **4**."))
    assert answer(page).locator("strong").inner_text() == "4"
    assert not answer(page).get_by_text("Two and two.").is_visible()
    answer(page).get_by_text("Thoughts").click()
    assert answer(page).get_by_text("Two and two.").is_visible()


def test_a_server_with_a_key_asks_for_it(browser: Any, web: Any) -> None:
    with serve("box", key="open-sesame") as guarded:
        visit = Visit(browser, guarded)
        page = visit.open()
        page.get_by_role("textbox", name="Key").fill("wrong")
        page.get_by_role("button", name="Use it").click()
        page.get_by_text("That key was not accepted.").wait_for()
        page.get_by_role("textbox", name="Key").fill("open-sesame")
        page.keyboard.press("Enter")
        page.get_by_placeholder("Message box").wait_for()
        visit.context.close()
        assert not [wrong for wrong in visit.wrongs if "401" not in wrong]


def test_a_failing_server_is_told_in_a_sentence(visit: Any) -> None:
    page = visit.open()
    page.route("**/v1/chat/completions", lambda route: route.abort())
    page.get_by_label("Message", exact=True).fill("Hi")
    page.keyboard.press("Enter")
    page.get_by_role("alert").filter(has_text="The server does not answer.").wait_for()
    visit.wrongs = [wrong for wrong in visit.wrongs if "ERR_FAILED" not in wrong]
