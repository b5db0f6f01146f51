"""Answers under a grammar: always in form, with any tokenizer, sampler and neighbour."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from schemas import fault, make
from tiny_models import random_model

from twofold.base.errors import UsageError
from twofold.run import Sampler, open_model
from twofold.run.batcher import Ask, Batcher
from twofold.run.constraints import Constraint, Grammars

FAMILIES = {"qwen3": "byte-level BPE", "llama": "SentencePiece", "gemma3": "SentencePiece without spaces"}
MODELS = {family: random_model(family, context=1024) for family in FAMILIES}
GRAMMARS = {family: Grammars(model.tokenizer) for family, model in MODELS.items()}
SAMPLERS = (
    Sampler(temperature=1.0),
    Sampler(temperature=0.7, top_p=0.9),
    Sampler(temperature=1.5, top_k=20, repetition_penalty=1.3),
    Sampler(temperature=1.0, min_p=0.05),
    Sampler(),
)
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"$ref": "#/$defs/city"}, "days": {"enum": [1, 2, 3]}},
                "required": ["city", "days"],
                "additionalProperties": False,
                "$defs": {"city": {"enum": ["Köln", "Bonn"]}},
            },
        },
    },
    {"name": "now", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}},
]
CALL = re.compile(r'<tool_call>\n\{"name": ("\w+"), "arguments": (\{.*\})\}\n</tool_call>')


def batcher_of(family: str, sequences: int = 8) -> Batcher:
    return Batcher(open_model(MODELS[family], threads=1, context=1024, sequences=sequences))


def wander(family: str, constraint: Constraint, seed: int, not_these: Sequence[int] = ()) -> str:
    """Return a text that the constraint lets pass, each token of those allowed being as likely."""
    tokenizer, random, ids = MODELS[family].tokenizer, np.random.default_rng(seed), []
    while not constraint.done:
        assert len(ids) < 900
        allowed = constraint.mask()
        allowed[list(not_these)] = False
        ids.append(int(random.choice(np.flatnonzero(allowed))))
        constraint.take(ids[-1])
    return tokenizer.decode_bytes(token for token in ids if token not in tokenizer.stop_ids).decode()


@pytest.mark.parametrize("family", FAMILIES)
def test_whatever_the_schema_the_answer_is_valid(family):
    tokenizer, batcher = MODELS[family].tokenizer, batcher_of(family)
    asked = {}
    for seed in range(40):
        constraint = GRAMMARS[family].json_schema(make(seed))
        sampler = Sampler(**{**SAMPLERS[seed % 5].__dict__, "seed": seed})
        prompt = tokenizer.encode(f"Number {seed}: ")
        asked[seed] = batcher.submit(
            Ask(ids=prompt, max_tokens=900, sampler=sampler, constraint=constraint, alternatives=2)
        )
    for seed, answering in asked.items():
        steps = list(answering)
        assert answering.finish == "stop"
        assert steps[-1].id in tokenizer.stop_ids
        text = tokenizer.decode_bytes(step.id for step in steps[:-1]).decode()
        assert fault(json.loads(text), make(seed)) is None, text
        assert json.dumps(json.loads(text), ensure_ascii=False)[0] == text[0]  # it begins at once
    assert batcher.figures()["steps"] < batcher.figures()["tokens"] / 4  # what is forced takes no step
    batcher.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_engine_alone_gives_the_same(family):
    engine, batcher = open_model(MODELS[family], threads=1, context=1024), batcher_of(family)
    prompt, sampler = MODELS[family].tokenizer.encode("The ferry"), Sampler(temperature=1.2, seed=5)
    stops = MODELS[family].tokenizer.stop_ids
    for seed in range(6):
        asked = [
            batcher.submit(
                Ask(
                    ids=prompt,
                    max_tokens=300,
                    sampler=sampler,
                    constraint=GRAMMARS[family].json_schema(make(n)),
                )
            )
            for n in (seed, seed + 50)
        ]
        alone = engine.generate(
            prompt,
            max_tokens=300,
            sampler=sampler,
            stop_ids=stops,
            constraint=GRAMMARS[family].json_schema(make(seed)),
        )
        assert [step.id for step in alone] == [step.id for step in asked[0]]
        list(asked[1])
    batcher.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_kind_of_grammar(family):
    grammars = GRAMMARS[family]
    for seed in range(5):
        text = wander(family, grammars.regex(r"[a-f]{3}/\d{2,4}-(é|ß){2}"), seed)
        assert re.fullmatch(r"[a-f]{3}/\d{2,4}-(é|ß){2}", text)
        text = wander(family, grammars.lark('start: "(" start? ")" | NAME\nNAME: /[a-z]{1,5}/'), seed)
        assert re.fullmatch(r"\(*([a-z]{1,5})?\)*", text)
        assert text.count("(") == text.count(")")
        text = wander(family, grammars.json_schema({"type": "string", "maxLength": 9, "format": "new"}), seed)
        assert len(json.loads(text)) <= 9  # nobody knows this format: it binds nothing
        assert wander(family, grammars.json_schema({"const": {"a": [1, "ü"]}}), seed) == '{"a": [1, "ü"]}'
    opening = grammars.json()
    assert [
        MODELS[family].tokenizer.token_bytes(token).decode() for token in np.flatnonzero(opening.mask())
    ] == ["{"]


@pytest.mark.parametrize("family", FAMILIES)
def test_calls_of_tools(family):
    tokenizer, grammars = MODELS[family].tokenizer, GRAMMARS[family]
    thinking = [tokenizer.special_id("<think>")] if family == "qwen3" else []
    for seed in range(8):
        for choice, parallel, names in (
            ("required", True, {"weather", "now"}),
            ("required", False, {"weather", "now"}),
            ("weather", True, {"weather"}),
        ):
            constraint = grammars.tool_calls(TOOLS, choice, parallel=parallel)
            text = wander(family, constraint, seed, not_these=thinking)
            calls = CALL.findall(text)
            assert text == "\n".join(match[0] for match in CALL.finditer(text))
            assert {json.loads(name) for name, _ in calls} <= names
            assert len(calls) == 1 or (parallel and choice == "required")
            for name, arguments in calls:
                tool = TOOLS[json.loads(name) == "now"]
                values = json.loads(arguments)
                assert list(values) == list(tool.get("function", tool)["parameters"]["properties"])
                assert values.get("city") in ("Köln", "Bonn", None)


@pytest.mark.parametrize("family", FAMILIES)
def test_arguments_stand_as_declared_or_by_the_alphabet(family):
    tokenizer = MODELS[family].tokenizer
    names = {name: {"enum": [1]} for name in ("url", "link", "part")}
    tool = {"name": "read", "parameters": {"type": "object", "properties": names, "required": ["url"]}}
    orders = {
        '"url": 1, "link": 1, "part": 1': True, '"link": 1, "part": 1, "url": 1': True, '"url": 1': True,
        '"link": 1, "url": 1': True, '"url": 1, "part": 1, "link": 1': False, '"part": 1, "link": 1': False,
    }  # fmt: skip
    for order, fits in orders.items():
        text = f'<tool_call>\n{{"name": "read", "arguments": {{{order}}}}}\n</tool_call>'
        constraint = GRAMMARS[family].tool_calls([tool], "required")
        for token in without_space(tokenizer, tokenizer.encode(text, specials=True)):
            if not constraint.mask()[token]:
                break
            constraint.take(token)
        else:
            assert fits, order
            continue
        assert not fits, order


@pytest.mark.parametrize("family", FAMILIES)
def test_a_choice_between_text_and_calls(family):
    tokenizer, grammars = MODELS[family].tokenizer, GRAMMARS[family]
    said = tokenizer.encode('<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>', specials=True)
    for before in ("", "Let me look.\n") if family == "qwen3" else ("",):
        constraint = grammars.tool_calls(TOOLS)
        for token in [*tokenizer.encode(before), *said] if before else without_space(tokenizer, said):
            assert constraint.mask()[token]
            constraint.take(token)
        assert constraint.mask()[min(tokenizer.stop_ids)]
    constraint = grammars.tool_calls(TOOLS)
    for token in tokenizer.encode("No call is needed."):
        assert constraint.mask()[token]
        constraint.take(token)
    assert constraint.mask()[min(tokenizer.stop_ids)]
    constraint = grammars.tool_calls(TOOLS)
    wrong = without_space(tokenizer, tokenizer.encode('<tool_call>\n{"name": "later"', specials=True))
    let_in = []
    while constraint.mask()[wrong[len(let_in)]]:
        let_in.append(wrong[len(let_in)])
        constraint.take(let_in[-1])
    assert b"<tool_call>" in tokenizer.decode_bytes(let_in)  # and the name of no tool


@pytest.mark.parametrize("family", FAMILIES)
def test_calls_beside_a_form_for_the_answer(family):
    tokenizer, schema = MODELS[family].tokenizer, {"enum": [{"city": "Rome"}, "none"]}
    for said, fits in (
        ('{"city": "Rome"}', True),
        ('"none"', True),
        ('<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>', True),
        ("Rome", False),
    ):
        constraint = GRAMMARS[family].tool_calls(TOOLS, answer=schema)
        ids = without_space(tokenizer, tokenizer.encode(said, specials=True))
        passed = 0
        while passed < len(ids) and constraint.mask()[ids[passed]]:
            constraint.take(ids[passed])
            passed += 1
        assert (passed == len(ids)) == fits
        assert not fits or constraint.done or constraint.mask()[min(tokenizer.stop_ids)]


def without_space(tokenizer, ids):
    """Return ids without the space that SentencePiece puts in front of a text."""
    return ids[1:] if tokenizer.token_bytes(ids[0]) == b" " else ids


def test_thinking_may_come_before_a_call():
    tokenizer = MODELS["qwen3"].tokenizer
    text = '<think>\nHm, now.\n</think>\n\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    for choice in ("auto", "required", "now"):
        constraint = GRAMMARS["qwen3"].tool_calls(TOOLS, choice)
        for token in tokenizer.encode(text, specials=True):
            assert constraint.mask()[token]
            constraint.take(token)
        assert constraint.done or constraint.mask()[min(tokenizer.stop_ids)]


def test_a_call_that_is_required_comes_however_long_the_thoughts():
    tokenizer, batcher = MODELS["qwen3"].tokenizer, batcher_of("qwen3")
    opened = tokenizer.special_id("<think>")
    for seed in range(8):
        sampler = Sampler(temperature=1.0, seed=seed)
        constraint = GRAMMARS["qwen3"].tool_calls(TOOLS, "required", parallel=False)
        constraint.take(opened)  # as a template does that begins the thoughts
        ids = [*tokenizer.encode("Now?"), opened]
        answering = batcher.submit(Ask(ids=ids, max_tokens=160, sampler=sampler, constraint=constraint))
        said = [step.id for step in answering]
        assert answering.finish == "stop", tokenizer.decode(said)
        assert said.index(tokenizer.special_id("</think>")) < 90  # half, and to the end of a letter
        assert CALL.search(tokenizer.decode(said))
    batcher.close()


def test_no_room_left_is_said():
    tokenizer, batcher = MODELS["qwen3"].tokenizer, batcher_of("qwen3", 2)
    schema = {"type": "array", "items": {"type": "string", "minLength": 50}, "minItems": 90}
    for most in (40, 5000):
        constraint = GRAMMARS["qwen3"].json_schema(schema)
        answering = batcher.submit(
            Ask(ids=tokenizer.encode("A list"), max_tokens=most, constraint=constraint)
        )
        assert len(list(answering)) <= 1024
        assert answering.finish == "length"
    batcher.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_schema_leaves_open_still_comes_to_an_end(family):
    tokenizer, batcher = MODELS[family].tokenizer, batcher_of(family)
    texts = {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "number"}]}}
    tree = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "below": texts},
        "required": ["name"],
    }
    for seed in range(12):
        for most in (60, 300):
            constraint = GRAMMARS[family].json_schema(tree if seed % 2 else texts)
            sampler = Sampler(temperature=1.0, seed=seed)
            ask = Ask(ids=tokenizer.encode("Tree:"), max_tokens=most, sampler=sampler, constraint=constraint)
            answering = batcher.submit(ask)
            ids = [step.id for step in answering]
            assert answering.finish == "stop", tokenizer.decode(ids)
            json.loads(tokenizer.decode_bytes(ids[:-1]))
    tool = {"name": "note", "parameters": tree}
    for choice in ("required", "note"):
        constraint = GRAMMARS[family].tool_calls([tool], choice, parallel=False)
        sampler = Sampler(temperature=1.0, seed=9)
        ask = Ask(ids=tokenizer.encode("A call:"), max_tokens=120, sampler=sampler, constraint=constraint)
        answering = batcher.submit(ask)
        text = tokenizer.decode([step.id for step in answering][:-1])
        assert answering.finish == "stop", text
        assert CALL.search(text)
    batcher.close()


def test_a_number_has_twenty_digits_at_most():
    tokenizer = MODELS["qwen3"].tokenizer
    number, digits = GRAMMARS["qwen3"].json_schema({"type": "number"}), tokenizer.encode("1234567890" * 2)
    for token in digits:
        assert number.mask()[token]
        number.take(token)
    assert not number.mask()[digits[0]]
    assert number.mask()[min(tokenizer.stop_ids)]
    exact = GRAMMARS["qwen3"].regex("[0-9]{30}")  # what must be, may be
    for token in [*digits, *digits[:10]]:
        assert exact.mask()[token]
        exact.take(token)
    assert exact.done


@pytest.mark.parametrize(
    ("make_it", "says"),
    [
        (lambda g: g.json_schema({"type": "nothing"}), "schema"),
        (lambda g: g.json_schema({"type": "array", "uniqueItems": True}), "uniqueItems"),
        (lambda g: g.json_schema({"$ref": "#/$defs/none"}), "none"),
        (lambda g: g.json_schema({"type": "string", "pattern": "(?=a)b"}), "look-ahead"),
        (lambda g: g.json_schema([1]), "object"),
        (lambda g: g.json_schema({"enum": {1, 2}}), "serializable"),
        (lambda g: g.json_schema({"enum": []}), "nsatisfiable"),
        (lambda g: g.regex("(a"), "unclosed"),
        (lambda g: g.lark("start: nowhere"), "nowhere"),
        (lambda g: g.tool_calls(TOOLS, "later"), "weather, now"),
        (lambda g: g.tool_calls([]), "at least one"),
        (lambda g: g.tool_calls([{"parameters": {}}]), "name"),
        (lambda g: g.tool_calls([{"name": "f", "parameters": {"type": "nothing"}}]), "nothing"),
    ],
)
def test_what_cannot_be_a_grammar_is_said_in_a_sentence(make_it, says):
    with pytest.raises(UsageError, match=says) as caught:
        make_it(GRAMMARS["qwen3"])
    assert "\n" not in str(caught.value)


def test_llguidance_is_loaded_when_a_grammar_is_made():
    code = (
        "import sys, twofold.run.batcher, twofold.run.constraints;"
        "assert not [name for name in sys.modules if name.startswith('llguidance')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
