"""The model card: what is valid, how it travels, and how it reads."""

import json

import pytest

from twofold.base.errors import BadFileError, TwofoldError
from twofold.parameters import card as cards

FULL = {
    "schema": 1,
    "name": "ferry-small",
    "summary": "Tells of ferries.",
    "author": "the makers",
    "organization": "the harbour",
    "version": "0.1",
    "created": "2025-01-31",
    "url": "https://example.org/ferry",
    "license": "MIT",
    "license_link": "https://example.org/licence",
    "languages": ["en", "fr"],
    "tags": ["small"],
    "limits": ["It makes things up."],
    "notes": ["Trained on two cores."],
    "parents": [{"name": "ferry-base", "url": "https://example.org/base"}],
    "data": [{"name": "timetables", "license": "CC0-1.0", "bytes": 123456, "documents": 12}, {"name": "a|b"}],
    "scores": [{"name": "held-out text", "value": 1.2345678, "unit": "bits per byte"}],
    "samples": [{"prompt": "The ferry", "text": "leaves *at* seven.\n\nOr eight."}],
    "recipe": {"seed": 1, "optimizer": {"lr": 3e-4}},
    "training": {"wall_s": 600, "loss_nats": [3.5, 2.5]},
    "sampling": {"temperature": 0.25, "top_k": 20, "min_p": 0},
}


def test_a_card_survives_the_file() -> None:
    metadata = cards.to_gguf(FULL)
    assert json.loads(metadata["twofold.card"]) == FULL
    assert cards.from_gguf(metadata, "x.gguf") == FULL


def test_advice_on_sampling_is_where_other_programs_look() -> None:
    metadata = cards.to_gguf(FULL)
    assert metadata["general.sampling.temp"] == 0.25
    assert metadata["general.sampling.top_k"] == 20
    assert "general.sampling.top_p" not in metadata
    theirs = {
        "general.sampling.temp": 0.5, "general.sampling.top_k": 2.5, "general.sampling.top_p": 7.0,
        "general.sampling.min_p": float("nan"), "general.sampling.penalty_repeat": True,
    }  # fmt: skip
    assert cards.from_gguf(theirs, "x.gguf")["sampling"] == {"temperature": 0.5}


def test_other_programs_find_what_they_know() -> None:
    metadata = cards.to_gguf(FULL)
    assert metadata["general.name"] == "ferry-small"
    assert metadata["general.description"] == "Tells of ferries."
    assert metadata["general.license"] == "MIT"
    assert metadata["general.languages"] == ["en", "fr"]
    assert metadata["general.base_model.count"] == 1
    assert metadata["general.base_model.0.name"] == "ferry-base"
    assert metadata["general.dataset.count"] == 2
    assert metadata["general.dataset.1.name"] == "a|b"


def test_a_foreign_file_gets_a_card_from_its_general_keys() -> None:
    metadata = {key: value for key, value in cards.to_gguf(FULL).items() if key != "twofold.card"}
    card = cards.from_gguf(metadata, "x.gguf")
    assert card["name"] == "ferry-small"
    assert card["tags"] == ["small"]
    assert [source["name"] for source in card["data"]] == ["timetables", "a|b"]
    assert cards.from_gguf({}, "x.gguf")["name"] == "unnamed"
    odd = {"general.name": 3, "general.tags": "x", "general.dataset.count": 1 << 60}
    assert cards.from_gguf(odd, "x.gguf") == {"schema": 1, "name": "unnamed"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": ""}, "lacks a name"),
        ({"licence": "MIT"}, "did you mean 'license'"),
        ({"schema": 2}, "update twofold"),
        ({"author": 3}, "author must be text"),
        ({"tags": "small"}, "tags must be a list of texts"),
        ({"data": [{"url": "x"}]}, r"data\[0\] lacks name"),
        ({"data": {"name": "x"}}, "data must be a list of objects"),
        ({"scores": [{"name": "x"}]}, r"scores\[0\] lacks value"),
        ({"recipe": [1]}, "recipe must be an object"),
        ({"sampling": {"temperature": -1}}, "sampling must be an object of temperature"),
        ({"sampling": {"heat": 1}}, "sampling must be an object of temperature"),
        ({"training": {"loss": float("nan")}}, "JSON cannot"),
        ({"training": {"loss": object()}}, "JSON cannot"),
    ],
)
def test_a_card_that_is_not_valid_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(TwofoldError, match=said):
        cards.validate({**FULL, **change})


@pytest.mark.parametrize("text", ["", "[1]", '{"name": 3}', "[" * 100_000, '{"name": "x", "what": 1}'])
def test_a_damaged_card_in_a_file_is_one_sentence(text: str) -> None:
    with pytest.raises(BadFileError, match=r"x\.gguf") as caught:
        cards.from_gguf({"twofold.card": text}, "x.gguf")
    assert "\n" not in str(caught.value)


def test_the_page_shows_everything_and_quotes_what_the_model_said() -> None:
    page = cards.to_markdown(FULL)
    assert page.startswith(
        '---\nlicense: "MIT"\nlanguage: ["en", "fr"]\ntags: ["small"]\n---\n\n# ferry-small\n'
    )
    assert "- It makes things up." in page
    assert "| held-out text | 1.235 | bits per byte |" in page
    assert "| timetables | CC0-1.0 | 123,456 | 12 |" in page
    assert "| a\\|b |  |  |  |" in page
    assert "> leaves \\*at\\* seven." in page
    assert '"lr": 0.0003' in page


def test_a_card_of_a_name_alone_is_a_page() -> None:
    assert cards.to_markdown({"name": "x"}) == "---\n---\n\n# x\n"


def test_a_sample_cannot_leave_its_quote() -> None:
    page = cards.to_markdown(
        {"name": "x", "samples": [{"prompt": "<script>", "text": "a\r# b\u2028c\n```\n"}]}
    )
    quoted = page.split("## Samples, as they came\n\n")[1]
    assert all(line.startswith(">") for line in quoted.strip("\n").split("\n"))
    assert "<script>" not in page.replace("\\<script\\>", "")
