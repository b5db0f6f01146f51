"""What a request may hold, and the sentences for what it may not."""

import pytest

from twofold.serve.fields import check, either, flag, listed, number, record, text, whole
from twofold.serve.refusals import Refusal

SCHEMA = record(
    {
        "name": text(choices=["a", "b"]),
        "on": flag(),
        "heat": number(0, 2),
        "many": whole(1, 5),
        "items": listed(record({"x": whole(0, 9)}, ["x"]), least=1, most=2),
        "stop": either(text(), listed(text())),
    },
    ["name"],
)


def test_what_fits_comes_back() -> None:
    value = {"name": "a", "on": True, "heat": 1, "many": 2.0, "items": [{"x": 1}], "stop": ["y"], "other": {}}
    found = check(SCHEMA, value)
    assert found == value
    assert isinstance(found["many"], int)
    assert check(SCHEMA, {"name": "b", "on": None}) == {"name": "b", "on": None}


@pytest.mark.parametrize(
    ("value", "where", "sentence"),
    [
        ({}, "name", "The field `name` is missing."),
        ({"name": None}, "name", "The field `name` is missing."),
        ([], None, "The body must be an object, not []."),
        ({"name": "c"}, "name", "`name` must be one of a, b, not 'c'."),
        ({"name": "a", "on": 1}, "on", "`on` must be true or false, not 1."),
        ({"name": "a", "heat": True}, "heat", "`heat` must be a number from 0 to 2, not True."),
        ({"name": "a", "heat": float("nan")}, "heat", "`heat` must be a number from 0 to 2, not nan."),
        ({"name": "a", "many": 2.5}, "many", "`many` must be a whole number from 1 to 5, not 2.5."),
        ({"name": "a", "items": []}, "items", "`items` has 0 items and takes 1 to 2."),
        (
            {"name": "a", "items": [{"x": 1}, {"x": "y"}]},
            "items[1].x",
            "`items[1].x` must be a whole number from 0 to 9, not 'y'.",
        ),
        ({"name": "a", "stop": [1]}, "stop[0]", "`stop[0]` must be text, not 1."),
        ({"name": "a", "stop": 1}, "stop", "`stop` must be text, not 1."),
        ({"name": "\ud800"}, "name", "`name` must be text, not '\\ud800'."),
        ({"name": "x" * 999}, "name", f"`name` must be one of a, b, not '{'x' * 38}…."),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(value, where: str | None, sentence: str) -> None:
    with pytest.raises(Refusal) as caught:
        check(SCHEMA, value)
    assert str(caught.value) == sentence
    assert caught.value.where == where
