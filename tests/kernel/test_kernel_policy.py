"""The rules of the policy, a pledge, capabilities: what is allowed, asked, and denied."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from twofold.base.errors import UsageError
from twofold.kernel.capabilities import Capability
from twofold.kernel.case import Call, answers
from twofold.kernel.device import Effect, Function
from twofold.kernel.flow import Label, Ring, flat, outside
from twofold.kernel.pages import Page
from twofold.kernel.pledge import Pledge, like
from twofold.kernel.policy import RULES, ByCapability, Decision, Rules
from twofold.kernel.process import Program, State

ME = Label(Ring.USER, None, frozenset({"user"}))
WEB = Label(Ring.TOOL, None, frozenset({"web:example.org"}))
BANK = Label(Ring.USER, frozenset({"user"}), frozenset({"bank"}))
SEND = Function(
    name="send",
    description="",
    parameters={},
    effect=Effect.SEND,
    targets=("to", "amount"),
    contents=("text",),
)
SAVE = Function(
    name="save", description="", parameters={}, effect=Effect.WRITE, targets=("path",), contents=("text",)
)
GET = Function(name="get", description="", parameters={}, effect=Effect.FETCH, targets=("url",))
LOOK = Function(name="look", description="", parameters={}, effect=Effect.READ)


def page(text: str, label: Label = ME, **more: Any) -> Page:
    return Page(id="v1", kind="result", text=text, label=label, source="look", tokens=1, **more)


def state(*pages: Page, pledge: Mapping[str, Any] | None = None, **more: Any) -> State:
    program = Program(message="", capabilities=more.pop("held", (Capability(device="mail"),)))
    own = {"pledge": Pledge.of(pledge, ME).record()} if pledge else {}
    return State(
        pid=1, seq=1, program=program, begun=0, at=0, limit=program.budget, label=ME, pages=pages, own=own,
        **more,
    )  # fmt: skip


def decide(function: Function, state: State, process: Label = ME, grants: Any = (), **given: Any) -> Decision:
    """given: an argument's value, or (value, label)."""
    arguments = {name: one[0] if isinstance(one, tuple) else one for name, one in given.items()}
    labels = {name: one[1] if isinstance(one, tuple) else process for name, one in given.items()}
    leaves = {path: labels[path.split(".")[0]] for path, _ in flat(arguments) if path}
    call = Call(
        id="c", device="mail", function=function, arguments=arguments, labels=labels, leaves=leaves,
        process=process, name=f"mail_{function.name}",
    )  # fmt: skip
    return Rules().decide(call, state, grants)


@pytest.mark.parametrize(
    ("function", "given", "process", "verdict", "rule"),
    [
        (LOOK, {}, ME, "allow", "harmless"),
        (LOOK, {}, WEB, "allow", "harmless"),
        (SEND, {"to": "ann", "text": "hello"}, ME, "allow", "trusted"),
        (SEND, {"to": ("ann", WEB), "text": "hello"}, ME, "ask", "foreign_target"),
        (SEND, {"to": "ann", "text": ("hello", WEB)}, ME, "ask", "foreign_text_leaves"),
        (SEND, {"to": "ann", "text": ("balance", BANK)}, ME, "ask", "secret_leaves"),
        (SEND, {"to": "user", "text": ("balance", BANK)}, ME, "allow", "trusted"),
        (SEND, {"to": "ann", "mode": ("fast", WEB)}, ME, "ask", "foreign_target"),
        (SAVE, {"path": "a", "text": ("hello", WEB)}, ME, "allow", "trusted"),
        (SAVE, {"path": "a", "text": ("balance", BANK)}, ME, "allow", "trusted"),
        (SAVE, {"path": ("a", WEB), "text": "hello"}, ME, "ask", "foreign_target"),
        (SAVE, {"path": ("a", ME), "text": "hello"}, WEB, "ask", "led_astray"),
        (SAVE, {}, WEB, "ask", "foreign_target"),
        (GET, {"url": "https://a.example/"}, ME, "allow", "trusted"),
        (GET, {"url": ("https://a.example/", WEB)}, ME, "ask", "foreign_target"),
        (GET, {"url": ("https://a.example/?q=1", BANK)}, ME, "ask", "secret_leaves"),
    ],
)
def test_what_may_flow(
    function: Function, given: dict[str, Any], process: Label, verdict: str, rule: str
) -> None:
    found = decide(function, state(), process, **given)
    assert (found.verdict, found.rule) == (verdict, rule)


def test_without_a_capability_nothing_goes_and_a_budget_ends() -> None:
    assert decide(LOOK, state(held=())).verdict == "deny"
    held = (Capability(device="mail", budget=2),)
    assert decide(LOOK, state(held=held, made={"capability.0": 1})).counts == ("capability.0",)
    assert decide(LOOK, state(held=held, made={"capability.0": 2})).verdict == "deny"
    assert decide(LOOK, state(held=(Capability(device="mail", expires=-1),))).rule == "no_capability"


def test_an_approval_shows_all_that_flows_and_a_grant_is_for_that_alone() -> None:
    long = "x" * 10_000
    found = decide(SEND, state(), to="ann", text=(long, WEB))
    assert found.shows["where"][0] == {
        "argument": "to", "value": "ann", "from": ["user"], "trusted": True, "for": None,
    }  # fmt: skip
    assert found.shows["what"][0]["value"] == long
    assert found.shows["what"][0]["from"] == ["web:example.org"]
    again = decide(SEND, state(), to="ann", text=("other", WEB), grants=[found.grant])
    assert (again.verdict, again.rule) == ("allow", "granted")
    other = Label(Ring.TOOL, None, frozenset({"web:evil.example"}))
    assert decide(SEND, state(), to="ann", text=("other", other), grants=[found.grant]).verdict == "ask"
    assert decide(SEND, state(), to="bob", text=("other", WEB), grants=[found.grant]).verdict == "ask"
    nameless = Label(Ring.TOOL)
    grant = decide(SEND, state(), to="ann", text=("other", nameless)).grant
    assert decide(SEND, state(), to="ann", text=("other", nameless), grants=[grant]).verdict == "ask"


def test_a_reason_tells_the_process_nothing_that_is_hidden() -> None:
    evil = Label(Ring.TOOL, None, frozenset({"web:obey-me.example"}))
    for function in (SEND, SAVE, GET):
        name = function.targets[0]
        assert "obey" not in decide(function, state(), **{name: ("obey-me", evil)}).reason
    held = (Capability(device="mail", scope=("a",)),)
    assert "obey" not in decide(SAVE, state(held=held), path=("obey-me", evil)).reason


PLEDGE = {
    "calls": [
        {"function": "mail_look", "times": 2},
        {
            "function": "mail_send",
            "arguments": {
                "to": {"open": "name"},
                "amount": {"open": "number"},
                "text": {"like": "rent {date}"},
            },
        },
        {"function": "mail_send", "arguments": {"to": "ann", "text": {"open": "text"}}},
    ],
    "answer": "{text} pays {number}, says {quote}.",
}


def test_after_a_pledge_nothing_else_is_possible_and_nobody_is_asked() -> None:
    found = decide(SEND, state(pledge=PLEDGE), to="bob", text="hello")
    assert (found.verdict, found.rule) == ("deny", "outside_the_pledge")
    assert decide(SAVE, state(pledge=PLEDGE), path="a", text="b").verdict == "deny"
    assert decide(LOOK, state(pledge=PLEDGE)).counts == ("capability.0", "pledge.0")
    assert decide(LOOK, state(pledge=PLEDGE, made={"pledge.0": 2})).verdict == "deny"


def test_what_a_pledge_fixed_stays_trusted_and_what_it_left_open_must_be_founded() -> None:
    rows = page('[{"to": "GB29", "amount": 12.5}]', BANK)
    given = {"to": "GB29", "amount": 12.5, "text": "rent 2024-05-01"}
    assert decide(SEND, state(pledge=PLEDGE), **given).verdict == "ask"  # nobody gave that account
    shown = page("GB30 is closed")
    assert (
        decide(SEND, state(rows, shown, pledge=PLEDGE), **given).verdict == "allow"
    )  # any date may go there
    assert decide(SEND, state(rows, shown, pledge=PLEDGE), **{**given, "amount": 99}).verdict == "ask"
    assert decide(SEND, state(rows, shown, pledge=PLEDGE), **{**given, "to": "EVIL"}).verdict == "ask"
    hidden = page("EVIL", WEB, hidden=True)
    assert decide(SEND, state(rows, shown, hidden, pledge=PLEDGE), **{**given, "to": "EVIL"}).verdict == "ask"
    astray = decide(SEND, state(pledge=PLEDGE), process=WEB, to="ann", text="come at once")
    assert (astray.verdict, astray.rule) == ("ask", "foreign_text_leaves")
    stub = page(hidden.stub().replace("v1", "v2"))
    assert decide(SEND, state(rows, shown, stub, pledge=PLEDGE), **{**given, "to": "web"}).verdict == "ask"


def test_an_answer_is_as_it_was_pledged() -> None:
    found = state(page('["Ann Lee"]'), pledge=PLEDGE)
    assert answers("Ann Lee pays 12, says ${v7}.", found)
    assert not answers("Visit evil.example pays 12, says ${v7}.", found)
    assert not answers("Ann Lee pays 12, says visit evil.example.", found)
    assert not answers("Visit evil.example.", found)
    assert answers("Visit evil.example.", state())


def test_patterns_are_read_in_the_way_that_is_wanted() -> None:
    wanted = {"a, b", "c"}
    assert like("{text}, {text}", "a, b, c") == ("a", "b, c")
    assert like("{text}, {text}", "a, b, c", lambda kind, piece: piece in wanted) == ("a, b", "c")
    assert like("{text}, {text}", "a, b, c", lambda kind, piece: False) is None
    assert like("{number} of {integer}", "1.5 of 2") == ("1.5", "2")
    assert like("{integer}", "1.5") is None
    assert like("{text}" * 8, "x" * 3000, lambda kind, piece: False) is None  # and that soon


@pytest.mark.parametrize(
    "calls",
    [
        [{"arguments": {}}],
        [{"function": "f", "times": 0}],
        [{"function": "f", "arguments": {"a": {"open": "anything"}}}],
        [{"function": "f", "arguments": {"a": {"open": "text", "like": "{text}"}}}],
        [{"function": "f", "arguments": {"a": {"one_of": 3}}}],
    ],
)
def test_what_is_no_pledge_is_told(calls: list[Any]) -> None:
    with pytest.raises(UsageError):
        Pledge.of({"calls": calls}, ME)


@pytest.mark.parametrize(
    ("pattern", "target", "covered"),
    [
        ("notes/*", "notes/a.txt", True),
        ("notes/*", "notes/../secret", False),
        ("notes/*", "./notes/a", True),
        ("*", "../secret", False),
        ("*@example.org", "ann@example.org", True),
        ("example.org", "https://example.org/a?b", True),
        ("example.org", "https://example.org@evil.example/", False),
        ("example.org", "https://example.org.evil.example/", False),
        ("*.example.org", "https://evil.example/x.example.org", False),
        ("*.example.org", "https://a.EXAMPLE.org:8000/", True),
        ("https://example.org/a/*", "https://example.org/a/b", True),
        ("https://example.org/a/*", "https://example.org/a/../b", False),
        ("https://example.org/*", "http://example.org/a", False),
        ("example.org", "https:\\\\example.org", False),
        ("*", "a\x00b", False),
    ],
)
def test_what_a_scope_covers(pattern: str, target: str, covered: bool) -> None:
    assert Capability(device="d", scope=(pattern,)).covers([target]) is covered


def test_what_came_from_outside_has_a_plain_name() -> None:
    part = outside("text", "mail:do what\nI say; [now]" + "x" * 100)
    (name,) = part.label.sources
    assert len(name) <= 80
    assert not any(sign in name for sign in " \n;[]")
    assert Label(Ring.TOOL, None, frozenset({"web:a.example", "web:b.example", "mail"})).kinds == [
        "mail",
        "web",
    ]


def test_without_rules_only_capabilities_count() -> None:
    call = Call(
        id="c",
        device="mail",
        function=SEND,
        arguments={"to": "evil"},
        labels={},
        leaves={"to": WEB},
        process=WEB,
    )
    assert ByCapability().decide(call, state(), ()).verdict == "allow"
    assert ByCapability().decide(call, state(held=()), ()).verdict == "deny"


def test_the_rules_stand_in_the_documentation_in_their_order() -> None:
    page = (Path(__file__).parents[2] / "docs" / "kernel.md").read_text(encoding="utf-8")
    places = [page.find(f"| `{rule.__name__}` |") for rule in RULES]
    assert -1 not in places
    assert places == sorted(places)
