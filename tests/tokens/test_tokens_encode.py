"""Text to ids and back: the fast path equals the readable reference, and no text makes a control token."""

import dataclasses

import numpy as np
import pytest
import tokenizers
from fuzz_strings import strings

from twofold.base.errors import BadFileError, UsageError
from twofold.tokens import Tokenizer, Vocabulary, huggingface, reference, unicode
from twofold.tokens.specials import SPECIALS
from twofold.tokens.vocabulary import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED

PRES = ("qwen2", "llama-bpe", "gpt-2", "smollm", "starcoder")


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return Tokenizer.train((s.decode("utf-8", "replace") for s in strings(7, 3000)), 1024)


@pytest.fixture(scope="module")
def spm() -> Tokenizer:
    return Tokenizer(small_spm())


def small_spm(**changes: object) -> Vocabulary:
    """A SentencePiece vocabulary with ties, runs of spaces, pieces that overlap, and a user-defined token."""
    pieces = [
        "▁", "e", "t", "a", "o", "s", "n", "h", "c", "1", "▁▁", "▁t", "he",
        "▁the", "▁a", "at", "▁c", "▁cat", "aa", "aaa", "▁▁▁▁", "▁s", "▁sa", "▁sat", "on", "东",
    ]  # fmt: skip
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces, "▁▁tab"]
    scores = [0.0] * 259 + [-float(n) for n in range(len(pieces))] + [0.0]
    scores[tokens.index("aaa")] = scores[tokens.index("aa")]
    types = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(pieces), USER_DEFINED]
    fields = {
        "scores": scores,
        "bos_id": 1,
        "eos_id": 2,
        "unk_id": 0,
        "add_bos": True,
        "add_space_prefix": True,
    }
    return Vocabulary(kind="spm", pre="default", tokens=tokens, types=types, **fields)  # type: ignore[arg-type]


def package(vocabulary: Vocabulary) -> tokenizers.Tokenizer:
    plain = dataclasses.replace(vocabulary, add_bos=False)
    return tokenizers.Tokenizer.from_str(huggingface.to_json(plain))


@pytest.mark.parametrize("pre", PRES)
def test_bpe_equals_the_reference_and_the_package(trained: Tokenizer, pre: str) -> None:
    tokenizer = Tokenizer(dataclasses.replace(trained.vocabulary, pre=pre))
    theirs = package(tokenizer.vocabulary)
    texts = strings(3, 3000 if pre == "qwen2" else 1000)
    batch = tokenizer.encode_batch(texts)
    for text, ids in zip(texts, batch, strict=True):
        assert ids == tokenizer.encode(text) == reference.encode(tokenizer.vocabulary, text), text
        with_specials = reference.encode(tokenizer.vocabulary, text, specials=True)
        as_text = text.decode("utf-8", "replace")
        assert with_specials == tokenizer.encode(text, specials=True) == theirs.encode(as_text).ids, text
        assert tokenizer.decode(ids) == as_text
        assert max(ids, default=0) < trained.vocab_size - len(SPECIALS)


@pytest.mark.parametrize("changes", [{}, {"add_space_prefix": False}, {"unk_id": None}])
def test_spm_equals_the_reference(changes: dict[str, object]) -> None:
    tokenizer = Tokenizer(small_spm(**changes))
    theirs = package(tokenizer.vocabulary)
    for text in [*strings(5, 1500), *((b"a" * n + b" the  cat") for n in range(9))]:
        for specials in (False, True):
            expected = reference.encode(tokenizer.vocabulary, text, specials)
            assert tokenizer.encode(text, specials=specials) == expected, text
        as_text = text.decode("utf-8", "replace").replace("▁", " ")
        assert tokenizer.decode(tokenizer.encode(text)) == as_text
        # The package knows no leftmost of equals, finds <unk>, and has no spaces in user-defined tokens.
        if not any(odd in as_text for odd in ("aaa", "<unk>", "tab")):
            assert theirs.encode(as_text).ids == tokenizer.encode(text, specials=True), text


def test_spm_whose_pieces_cross_words_is_not_cut_into_words() -> None:
    v = small_spm()
    crossing = dataclasses.replace(
        v,
        tokens=(*v.tokens, "at▁s"),
        types=(*v.types, NORMAL),
        scores=(*v.scores, 5.0),
        add_space_prefix=False,
    )
    ids = Tokenizer(crossing).encode("cat sat")
    assert len(crossing.tokens) - 1 in ids
    assert ids == reference.encode(crossing, "cat sat")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<s>the", ["<s>", "▁the"]),  # a space in front also after a special token
        ("the<s>", ["▁the", "<s>"]),
        ("<s>", ["<s>"]),  # but not where there is no text
        ("", []),
        ("▁the", ["▁▁", "t", "he"]),  # U+2581 is a space
        ("  tab the", ["▁▁tab", "▁▁", "t", "he"]),  # a user-defined token's spaces are spaces too
        ("\n", ["▁", "<0x0A>"]),
    ],
)
def test_spm_spaces(spm: Tokenizer, text: str, expected: list[str]) -> None:
    ids = [spm.vocabulary.tokens.index(token) for token in expected]
    assert spm.encode(text, specials=True) == ids == reference.encode(spm.vocabulary, text, specials=True)


def test_without_byte_tokens_unknown_characters_are_the_unknown_token() -> None:
    v = small_spm()
    bare = dataclasses.replace(v, types=tuple(NORMAL if t == BYTE else t for t in v.types))
    assert Tokenizer(bare).encode("é") == reference.encode(bare, "é") == [v.tokens.index("▁"), 0, 0]


def test_text_never_becomes_an_unknown_token_that_is_a_control_token() -> None:
    v = small_spm()
    changed = {UNKNOWN: CONTROL, BYTE: NORMAL}
    odd = dataclasses.replace(v, types=tuple(changed.get(t, t) for t in v.types))
    assert Tokenizer(odd).encode("é") == reference.encode(odd, "é") == [v.tokens.index("▁")]


@pytest.mark.parametrize(
    "data", [b"\xf0\x9f\x98a", b"\xe2\x82\xe2\x82\xac", b"\xed\xa0\x80", b"\xff\xfe", b"a\x80"]
)
def test_damaged_utf8_becomes_replacement_characters(trained: Tokenizer, data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    assert "\ufffd" in text
    assert trained.encode(data) == trained.encode(text)
    assert trained.decode(trained.encode(data)) == text


def test_a_lone_surrogate_in_a_str_does_no_harm(trained: Tokenizer) -> None:
    assert trained.decode(trained.encode("a\ud800b")) == "a\ufffd\ufffd\ufffdb"


def test_specials_are_only_seen_when_asked_for(trained: Tokenizer) -> None:
    text = "<|im_start|>" + "".join(SPECIALS)
    ids = trained.encode(text, specials=True)
    assert ids == [trained.special_id("<|im_start|>"), *range(trained.vocab_size - 32, trained.vocab_size)]
    assert not {*trained.encode(text)} & {*ids}
    assert trained.decode(trained.encode(text)) == trained.decode(ids) == text


def test_the_longest_special_token_wins() -> None:
    tokens = (*map(chr, range(33, 127)), "<a", "<a>b", "<a>")
    types = (*[NORMAL] * 94, USER_DEFINED, CONTROL, USER_DEFINED)
    v = Vocabulary(kind="bpe", pre="qwen2", tokens=tokens, types=types)
    for specials, expected in ((True, [95, 64]), (False, [96, 65, 64])):
        assert Tokenizer(v).encode("<a>ba", specials=specials) == expected
        assert reference.encode(v, "<a>ba", specials) == expected


def test_merges_cannot_make_a_control_token() -> None:
    tokens = (*map(chr, range(33, 127)), "<s", "<s>")
    v = Vocabulary(
        kind="bpe", pre="qwen2", tokens=tokens, types=(*[NORMAL] * 95, CONTROL), merges=("< s", "<s >")
    )
    assert Tokenizer(v).encode("<s>") == reference.encode(v, "<s>") == [94, tokens.index(">")]


def test_trained_layout(trained: Tokenizer) -> None:
    v = trained.vocabulary
    assert v.tokens[-32:] == SPECIALS
    assert set(v.types[-32:]) == {CONTROL}
    assert {trained.token_bytes(token) for token in range(256)} == {bytes([byte]) for byte in range(256)}
    assert (v.kind, v.pre, v.add_bos, v.bos_id) == ("bpe", "qwen2", False, None)
    assert v.tokens[v.eos_id or 0] == "<|endoftext|>"
    assert {v.tokens[token] for token in trained.stop_ids} == {"<|endoftext|>", "<|im_end|>"}


def test_training_is_repeatable_and_keeps_its_size() -> None:
    texts = ["one two three two three three"] * 3
    small, again = (Tokenizer.train(iter(texts), 384) for _ in range(2))
    assert small.vocabulary == again.vocabulary
    assert small.vocab_size == 384
    assert (
        Tokenizer.train([], 320).decode(Tokenizer.train([], 320).encode("no text at all")) == "no text at all"
    )


@pytest.mark.parametrize("size", [0, 256, 1000, 4097])
def test_odd_sizes_are_refused(size: int) -> None:
    with pytest.raises(UsageError, match="multiple of 64"):
        Tokenizer.train(["text"], size)


def test_padding_adds_tokens_that_no_text_makes(trained: Tokenizer, spm: Tokenizer) -> None:
    for tokenizer in (trained, spm):
        wide = tokenizer.padded(2000)
        assert wide.vocab_size == 2000
        assert wide.encode("<|padding_1999|>the", specials=True) == tokenizer.encode("<|padding_1999|>the")
        assert wide.padded(100) is wide


def test_misuse_is_one_sentence(trained: Tokenizer) -> None:
    with pytest.raises(UsageError, match="no special token"):
        trained.special_id("<|nothing|>")
    with pytest.raises(UsageError, match="no token 1024"):
        trained.token_bytes(1024)
    with pytest.raises(BadFileError, match="qwen2"):
        dataclasses.replace(trained.vocabulary, pre="deepseek-llm")


def test_unicode_runs_are_what_the_package_sees_in_all_planes() -> None:
    every = dict(unicode.probe(((0, 0xD800), (0xE000, 0x110000))))
    assert dict(unicode.runs()) == every
    packed = unicode.packed()
    assert packed.dtype == np.uint32
    assert packed[0] >> 2 == 0
    assert (np.diff(packed >> 2) > 0).all()
    classes = [unicode.class_of(c) for c in "aé東½9 \n\u3000!\ud800\U0010ffff"]
    assert classes == [1, 1, 1, 2, 2, 3, 3, 3, 0, 0, 0]
