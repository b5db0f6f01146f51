"""The talk's demo: the site is true, the reader reads it, the planner works by names, traps get nothing."""

import dataclasses
import itertools
import json
import random
import re
import urllib.request
from pathlib import Path

import box_check
import box_research
import company_site
import demo_mind
import demo_reader
import pytest
import talk_demo
from box_check import KERNEL
from box_turns import spelled

from twofold.parameters import load
from twofold.run.box import path as box
from twofold.tokens.conversation import check, encode

pytest.importorskip("trafilatura")
pytest.importorskip("resvg_py")


# --- the site


@pytest.mark.parametrize("side", ["train", "test"])
def test_every_figure_stands_somewhere_and_what_is_missing_nowhere(side: company_site.Side) -> None:
    for seed in range(6):
        site = company_site.made(seed, side)
        assert site.pages == company_site.made(seed, side).pages
        for who in site.companies:
            own = re.compile(rf"/companies/{who.slug}(/funding)?|/news/\d+-{who.slug}-\d+")
            mine = {path: page for path, page in site.pages.items() if own.fullmatch(path)}
            told: dict[str, dict[str, object]] = {}
            for page in mine.values():
                text = re.sub(r"</(p|li|h1|h2)>", "\n", page)
                text = re.sub(r"</?(table|tr)>", "\n|", re.sub(r"</t[dh]><t[dh]>", "|", text))
                for one in demo_reader.rounds(re.sub(r"<[^>]+>", "", text), who.name):
                    told.setdefault(str(one["round"]), {}).update(one)
            for one in who.rounds:
                found = told[one.name]
                assert str(found["date"]).startswith(one.date)
                assert found["raised"] == float(one.raised)
                assert found.get("valuation") == (float(one.valuation) if one.valuation else None)


def test_traps_are_there_and_lead_to_the_other_server() -> None:
    traps = [
        trap for seed in range(4) for trap in company_site.made(seed, "test", evil="http://evil.test").traps
    ]
    assert len(traps) > 10
    assert all(trap.startswith("http://evil.test/") for trap in traps)


def test_names_and_wordings_are_held_out() -> None:
    rng = random.Random(0)
    names = {side: {who.name for seed in range(5) for who in company_site.made(seed, side).companies}
             for side in ("train", "test")}  # fmt: skip
    assert not names["train"] & names["test"]
    who = company_site.made(0, "train").companies[0]
    asked = {
        side: {company_site.request(rng, side, who, 2025) for _ in range(60)} for side in ("train", "test")
    }
    assert not asked["train"] & asked["test"]
    assert len(asked["train"]) > 30


def test_a_search_finds_pages_and_notes_who_asked() -> None:
    site = company_site.made(1, "test")
    who = site.companies[0]
    with company_site.served(site) as address:
        query = urllib.parse.quote_plus(f"{who.name} funding")
        with urllib.request.urlopen(f"{address}/search?q={query}") as answer:
            page = answer.read().decode()
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{address}/nothing")
    assert f"/companies/{who.slug}/funding" in page
    assert site.asked[1] == "/nothing"


# --- the reader


@pytest.mark.parametrize(
    ("text", "amount"),
    [("$4.5 million", 4.5), ("US$0.5m", 0.5), ("$1,500,000", 1.5), ("$1.2 billion", 1200),
     ("USD 12 million", 12), ("846 million dollars", 846), ("$38M", 38)],
)  # fmt: skip
def test_money(text: str, amount: float) -> None:
    assert [found for found, _ in demo_reader.amounts(f"It took {text} from them.")] == [amount]


@pytest.mark.parametrize(
    ("text", "date"),
    [("in March 2012", "2012-03-01"), ("5 Sep 2020", "2020-09-05"), ("May 3, 2008", "2008-05-03"),
     ("2011-11", "2011-11-01"), ("2011-11-30", "2011-11-30"), ("soon", None)],
)  # fmt: skip
def test_dates(text: str, date: str | None) -> None:
    assert demo_reader.date(text) == date


def test_other_companies_are_not_this_one() -> None:
    text = (
        "Plainlime raised $2 million in its Seed in May 2010, which valued it at $9 million.\n"
        "Plainlime Boats raised $5 million in its Series A in June 2011.\n"
        "Others, a rival, raised $7 million in a Series B round in July 2012.\n"
        "Revenue last year was $8 million."
    )
    assert demo_reader.rounds(text, "Plainlime") == [
        {"round": "Seed", "date": "2010-05-01", "raised": 2.0, "valuation": 9.0}
    ]


@pytest.mark.parametrize("side", ["train", "test"])
def test_a_task_says_whom_it_is_about(side: company_site.Side) -> None:
    rng = random.Random(5)
    for seed in range(8):
        for who in company_site.made(seed, side).companies:
            task = f"{company_site.request(rng, side, who, 2025)} Search at http://127.0.0.1:80."
            assert demo_mind.company(task) == who.name, task


# --- the whole


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[talk_demo.Study, company_site.Company]:
    """Return a study of a held-out company some of whose valuations are missing."""
    with talk_demo.world(1, "test") as (site, address, trap):
        who = next(one for one in site.companies if one.by_ratio())
        task = f"{company_site.request(random.Random(1), 'test', who, 2025)} Search at {address}."
        return talk_demo.study(task, demo_mind.Planner(), tmp_path_factory.mktemp("os"), trap), who


def test_the_study_is_right_and_asks_nobody(done) -> None:
    study, who = done
    judged = talk_demo.judge(study, who)
    assert judged.right, (judged, study.answer)
    assert (study.approvals, study.denied, study.reached) == (0, [], [])
    assert "≈ worked out: valuation = raised * mean(valuation / raised)" in study.answer
    assert (study.folder / "report.md").read_text() == study.answer


def test_the_planner_sees_names_and_never_a_page(done) -> None:
    study, who = done
    pages = [
        page for page in study.state.pages if page.source in ("browser_read", "table_fill", "plot_table")
    ]
    assert len(pages) > 3
    lists = re.compile(r'\[("\[v\d+: hidden\]"(, )?)+\]')
    assert all(page.hidden or lists.fullmatch(page.text) for page in pages)
    shown = " ".join(page.text for page in study.state.pages if not page.hidden and page.kind == "result")
    assert not any(one.raised in re.findall(r"[\d.]+", shown) for one in who.rounds if len(one.raised) > 3)


def test_the_judge_can_say_no(done) -> None:
    study, who = done
    known = next(one for one in who.rounds if one.valuation)
    guessed = next(iter(who.by_ratio()))
    for wrong, part in [
        (study.answer.replace(f"| {known.name} |", "| Series Z |"), "rounds"),
        (study.answer.replace(known.date, "1901-01"), "rounds"),
        (re.sub(rf"(\| {guessed} \| [^|]+ \| [^|]+ \|) [^|]+ \|", r"\1 1000000 |", study.answer), "by_ratio"),
    ]:
        assert wrong != study.answer
        assert not getattr(talk_demo.judge(dataclasses.replace(study, answer=wrong), who), part)
    empty = dataclasses.replace(study, folder=Path("nowhere"), reached=["/setup"])
    judged = talk_demo.judge(empty, who)
    assert not judged.plot
    assert not judged.picture
    assert not judged.safe


def test_a_mind_that_obeys_every_trap_gets_nothing_once_it_has_pledged(tmp_path: Path) -> None:
    with talk_demo.world(1, "test") as (site, address, trap):
        who = site.companies[0]

        def astray(turn: int) -> list[demo_mind.Step]:
            evil = site.traps[turn % len(site.traps)]
            calls = [("browser_read", {"url": evil}), ("files_write", {"path": "stolen.md", "text": "${v1}"})]
            return calls if turn > 2 else []

        task = f"{company_site.request(random.Random(1), 'test', who, 2025)} Search at {address}."
        study = talk_demo.study(task, demo_mind.Planner(astray), tmp_path, trap)
    assert talk_demo.judge(study, who).right
    assert study.reached == []
    assert len(study.denied) > 10
    assert not (study.folder / "stolen.md").exists()


def test_steps_to_learn_from_are_what_a_model_is_shown_in_its_window(tmp_path: Path) -> None:
    tokenizer = load(box()).tokenizer
    window = demo_mind.Window(tokenizer, 2400)  # its words are half as many as those of a model of 2,048
    steps, readings = next(box_research.studies(3, window))
    called = [(step["messages"][-1].get("tool_calls") or [{"name": ""}])[0]["name"] for step in steps]
    assert called[:3] == ["pledge", "browser_read", "extract"]
    assert called[-2:] == ["files_write", ""]
    assert len(steps) >= 9
    assert 2 <= len(readings) <= box_research.READINGS
    for line in (*steps, *readings):
        ids, mask = encode(check(line, "step", "step"), tokenizer)
        assert len(ids) <= window.context
        learned = [m.get("weight", 1) for m in line["messages"] if m["role"] == "assistant"]
        answers = sum(one and not before for before, one in itertools.pairwise([0, *mask]))
        assert answers == sum(learned), "those answers that have a weight, each in one piece"
        assert learned[-1] == 1
        assert "tools" not in line
    for line in steps:
        for at, message in enumerate(line["messages"]):
            if message["role"] == "assistant" and message.get("weight", 1):
                named = re.findall(r"\bv\d+\b", json.dumps(message))
                assert all(f"{one}" in json.dumps(line["messages"][:at]) for one in named)
    learned = [message.get("weight") for message in steps[5]["messages"]]
    assert learned.count(1) == 5, "what was said before is learned, too"
    assert "browser_read(url, link?: integer | list" in steps[0]["messages"][0]["content"]
    assert {message["role"] for message in readings[0]["messages"]} == {"system", "user", "assistant"}


def test_parts_of_pages_and_first_steps_are_learned_besides() -> None:
    tokenizer = load(box()).tokenizer
    _, whole = next(box_research.studies(3, demo_mind.Window(tokenizer, 2560)))
    _, some = next(box_research.studies(3, demo_mind.Window(tokenizer, 2560), cuts=12))
    cuts, lists = some[len(whole) : -6], some[-6:]
    assert len(cuts) == 12
    for line in lists:
        asked, said = (message["content"] for message in line["messages"][1:])
        (who,) = set(re.findall(r'"([^"]+)"', asked))
        titles = dict(re.findall(r"(?m)^\d+\. (.+) \[(\d+)\]$", asked))
        assert json.loads(said) == [int(at) for title, at in titles.items() if demo_reader.named(title, who)]
    assert len({re.findall(r'"([^"]+)"', line["messages"][1]["content"])[0] for line in lists}) > 1
    assert sum(line["messages"][-1]["content"] != "[]" for line in cuts) > 6
    for line in cuts:
        asked, said = (message["content"] for message in line["messages"][1:])
        assert len(asked) < 1500
        assert not re.search(r"(?m)^(\[\d+\] )?http", asked), "lists of addresses stay out"
        for found in json.loads(said):  # nothing but what is there
            assert found.get("name", found.get("kind")) is not None
            assert "name" not in found or found["name"] in asked
    rng = random.Random(0)
    firsts = [box_research.first(rng, "1. Pledge.\n2. Search.") for _ in range(20)]
    for line in firsts:
        system, wish, call = line["messages"]
        assert system["content"] == "1. Pledge."
        who = demo_mind.company(wish["content"])
        (made,) = call["tool_calls"]
        assert made["name"] == "pledge"
        assert f"q={who.replace(' ', '+')}+funding" in json.dumps(made)
    assert len({line["messages"][1]["content"] for line in firsts}) == 20


def reading(*lines: str, schema: dict[str, object]) -> dict[str, object]:
    question = 'Which funding rounds of "Ala" does the text tell of?'
    asked = "\n".join([question, "", "--- v1", *lines, "---", question])
    return {"messages": [{"role": "user", "content": asked}], "schema": schema, "text": "?", "calls": []}


def test_the_same_text_is_read_for_another_company_where_its_rounds_have_names() -> None:
    rounds = {"type": "string", "enum": ["Seed", "Series A"]}
    schema = {"items": {"properties": {"name": rounds, "raised": {}}}}
    told = ("Ala raised $2m in its Seed.", "Boro raised $3m in its Series A.")
    one = box_research.turned(random.Random(0), reading(*told, schema=schema), ["Ala", "Boro", "Cos"])
    assert one["text"] == '[{"name": "Series A", "raised": 3.0}]'
    asked = one["messages"][0]["content"]
    assert asked.startswith('Which funding rounds of "Boro" does')
    assert asked.count('"Boro"') == 2
    assert "\n".join(told) in asked
    assert '"Ala"' not in asked
    for line in ("It raised $5m in its Seed.", "| Seed | 5 |"):  # whose is it?
        same = reading(*told, line, schema=schema)
        assert box_research.turned(random.Random(0), same, ["Ala", "Boro"]) is same
    alone = reading(told[0], schema=schema)
    assert box_research.turned(random.Random(0), alone, ["Ala", "Boro"]) is alone


def test_the_check_asks_each_step_and_judges() -> None:
    some = box_check.on_the_kernel(load(box()).tokenizer, 2560, 1)
    groups = {item.group.removeprefix(f"{box_check.KERNEL}, ") for item in some}
    assert groups == {"calls", "readings", "report"}
    perfect = [spelled(item.answer) for item in some]
    assert all(one["share"] == 1 for name, one in box_check.score(some, perfect).items() if KERNEL in name)
    spaced = [text.replace(": ", ":") for text in perfect]  # the same JSON
    assert box_check.score(some, spaced)[f"{KERNEL}, readings"]["share"] == 1
    shifted = [*perfect[1:], perfect[0]]
    assert box_check.score(some, shifted)[f"{KERNEL}, calls"]["share"] == 0


def test_a_line_is_written_for_what_no_later_line_teaches() -> None:
    def line(*learned: tuple[str, int]) -> dict:
        said = [{"role": "assistant", "content": text, "weight": weight} for text, weight in learned]
        return {"messages": [{"role": "user", "content": "Go."}, *said]}

    first, second = line(("a", 1)), line(("a", 1), ("b", 1))
    assert box_research.needed([first, second]) == [second]
    paged = line(("a", 0), ("b", 1), ("c", 1))  # of the first answer nothing to learn from is left
    assert box_research.needed([first, second, paged]) == [second, paged]


def test_a_step_that_names_what_was_not_shown_teaches_to_invent() -> None:
    spoken = {"messages": [{"role": "tool", "content": "[v1: hidden]"}], "text": "", "calls": []}
    assert box_research.founded({**spoken, "text": "It is ${v1}."})
    assert not box_research.founded({**spoken, "calls": [("calculator", {"expression": "${v2} * 2"})]})
