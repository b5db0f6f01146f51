"""Hugging Face folders: ours open in transformers with the same ids, the known families' files open here."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import templates
import tokenizers
from fuzz_strings import strings
from test_tokens_encode import small_spm
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer

from twofold.base.errors import BadFileError
from twofold.tokens import Tokenizer, bpe
from twofold.tokens.vocabulary import BYTE, CONTROL, UNKNOWN, UNUSED, USER_DEFINED

MESSAGES = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "1+1?"},
    {
        "role": "assistant",
        "content": "<think>\nEasy.\n</think>\n\nLet me see.",
        "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": "é <"}}}],
    },
    {"role": "tool", "content": "2"},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": " Thanks!\n"},
]
TOOLS = [
    {
        "type": "function",
        "function": {"name": "add", "parameters": {"type": "object", "required": ["a", "é"]}},
    }
]


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return Tokenizer.train((s.decode("utf-8", "replace") for s in strings(9, 2000)), 1024)


def their_ids(theirs: Any, messages: Any, **values: Any) -> list[int]:
    return theirs.apply_chat_template(messages, tokenize=True, return_dict=False, **values)


def test_autotokenizer_gives_the_same_ids(trained: Tokenizer, tmp_path: Path) -> None:
    trained.to_hf(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert len(theirs) == trained.vocab_size
    for text in strings(13, 500):
        as_text = text.decode("utf-8", "replace")
        ids = trained.encode(text, specials=True)
        assert theirs(as_text)["input_ids"] == ids
        assert theirs.decode(ids) == trained.decode(ids)
    assert (theirs.eos_token_id, theirs.pad_token_id) == (
        trained.vocabulary.eos_id,
        trained.vocabulary.pad_id,
    )


@pytest.mark.parametrize("tools", [None, TOOLS])
@pytest.mark.parametrize("ask", [True, False])
def test_autotokenizer_renders_the_same_conversations(
    trained: Tokenizer, tmp_path: Path, tools: Any, ask: bool
) -> None:
    trained.to_hf(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for n in range(1, len(MESSAGES) + 1):
        values: dict[str, Any] = {"tools": tools, "add_generation_prompt": ask}
        assert their_ids(theirs, MESSAGES[:n], **values) == trained.chat(MESSAGES[:n], **values)
        text = theirs.apply_chat_template(MESSAGES[:n], tokenize=False, **values)
        assert text == trained.render(MESSAGES[:n], **values)


@pytest.mark.parametrize("name", ["LLAMA2", "MISTRAL", "QWEN25", "LLAMA3", "COUNTING"])
def test_foreign_templates_render_as_in_transformers(trained: Tokenizer, tmp_path: Path, name: str) -> None:
    template = getattr(templates, name)
    v = dataclasses.replace(trained.vocabulary, chat_template=template)
    v = dataclasses.replace(v, bos_id=v.eos_id)
    Tokenizer(v).to_hf(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    messages = [{"role": ("user", "assistant")[n % 2], "content": f" text {n}\n"} for n in range(3)]
    for count in (1, 2, 3):
        for ask in (False, True):
            values: dict[str, Any] = {"add_generation_prompt": ask}
            expected = theirs.apply_chat_template(messages[:count], tokenize=False, **values)
            assert Tokenizer(v).render(messages[:count], **values) == expected
            assert Tokenizer(v).chat(messages[:count], **values) == their_ids(
                theirs, messages[:count], **values
            )


def test_spm_opens_in_transformers(tmp_path: Path) -> None:
    ours = Tokenizer(small_spm())
    ours.to_hf(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("the cat sat on a hat", "  two  spaces é 东", "<s>the</s>cat"):
        assert theirs(text)["input_ids"] == [1, *ours.encode(text, specials=True)]
        assert theirs.decode(ours.encode(text)) == ours.decode(ours.encode(text)) == text


@pytest.mark.parametrize("kind", ["bpe", "spm"])
def test_every_form_keeps_everything(trained: Tokenizer, tmp_path: Path, kind: str) -> None:
    v = dataclasses.replace(trained.vocabulary, bos_id=1, add_bos=True) if kind == "bpe" else small_spm()
    twins = dataclasses.replace(
        v,
        tokens=(*v.tokens, v.tokens[265], "x y", ""),
        types=(*v.types, UNUSED, USER_DEFINED, CONTROL),
        scores=(*v.scores, 0.0, 0.0, 0.0) if v.scores else (),
    )
    for vocabulary in (v, twins):
        tokenizer = Tokenizer(vocabulary)
        tokenizer.save(tmp_path / "tokenizer.json")
        assert Tokenizer.load(tmp_path / "tokenizer.json").vocabulary == vocabulary
        assert Tokenizer.from_gguf(tokenizer.to_gguf()).vocabulary == vocabulary
        tokenizer.to_hf(tmp_path)
        assert Tokenizer.from_hf(tmp_path).vocabulary == vocabulary


# ---- files that others wrote


def write(folder: Path, made: tokenizers.Tokenizer, **config: Any) -> None:
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def bytelevel(trained: Tokenizer, pre: Any, **model: Any) -> tokenizers.Tokenizer:
    v = trained.vocabulary
    ids = {text: token for token, text in enumerate(v.tokens[:-32])}
    made = tokenizers.Tokenizer(
        models.BPE(vocab=ids, merges=[tuple(merge.split(" ")) for merge in v.merges], **model)
    )
    made.pre_tokenizer, made.decoder = pre, decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    made.add_tokens([AddedToken("<think>", normalized=False)])
    return made


def split(pattern: str) -> Any:
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), level])


GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
FAMILIES = {
    "qwen2": (split(bpe.QWEN2), {}),
    "llama-bpe": (split(bpe.LLAMA3), {"ignore_merges": True}),
    "gpt-2": (GPT2, {}),
    "smollm": (pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2]), {}),
}


@pytest.mark.parametrize("pre", FAMILIES)
def test_byte_level_families_are_recognised(trained: Tokenizer, tmp_path: Path, pre: str) -> None:
    made = bytelevel(trained, FAMILIES[pre][0], **FAMILIES[pre][1])
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", made.token_to_id("<s>"))]
    )
    write(tmp_path, made, eos_token={"content": "</s>"}, pad_token=None, chat_template=templates.MISTRAL)
    ours = Tokenizer.from_hf(tmp_path)
    v = ours.vocabulary
    assert (v.kind, v.pre, v.add_bos, v.chat_template) == ("bpe", pre, True, templates.MISTRAL)
    assert (v.tokens[v.bos_id or 0], v.tokens[v.eos_id or 0], v.pad_id) == ("<s>", "</s>", None)
    assert v.types[-3:] == (CONTROL, CONTROL, USER_DEFINED)
    for text in strings(17, 400):
        as_text = text.decode("utf-8", "replace")
        assert ours.encode(text, specials=True) == made.encode(as_text, add_special_tokens=False).ids


def test_llama2_and_mistral_files_become_sentencepiece(tmp_path: Path) -> None:
    pieces = [*"▁theca", "▁t", "he", "▁the", "▁c", "at", "▁cat"]
    ids = {
        text: n
        for n, text in enumerate(["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *pieces])
    }
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("▁", "c"), ("a", "t"), ("▁c", "at")]
    for way in ("Prepend", "Metaspace"):
        made = tokenizers.Tokenizer(
            models.BPE(vocab=ids, merges=merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
        )
        if way == "Prepend":
            made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        else:
            made.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
        made.add_special_tokens(["<unk>", "<s>", "</s>"])
        write(
            tmp_path,
            made,
            tokenizer_class="LlamaTokenizer",
            bos_token="<s>",
            eos_token="</s>",
            unk_token="<unk>",
        )
        ours = Tokenizer.from_hf(tmp_path)
        v = ours.vocabulary
        assert (v.kind, v.add_bos, v.add_space_prefix, v.unk_id) == ("spm", True, True, 0)
        assert v.types[:4] == (UNKNOWN, CONTROL, CONTROL, BYTE)
        # Metaspace writes no second space before a text that begins with one; SentencePiece and llama.cpp do.
        for text in ("the cat", "cat the théâtre", "a\n", "東", *([" a"] if way == "Prepend" else [])):
            assert ours.encode(text) == made.encode(text, add_special_tokens=False).ids
            assert ours.decode(ours.encode(text)) == text


def test_gemma_files_have_runs_of_spaces_as_tokens(tmp_path: Path) -> None:
    """transformers makes such a token by merges, we find it in the text: the ids are the same."""
    pieces = ["▁", "a", "b", "▁▁", "▁▁▁", "▁a"]
    ids = {
        text: n for n, text in enumerate(["<unk>", "<bos>", *(f"<0x{b:02X}>" for b in range(256)), *pieces])
    }
    merges = [("▁", "▁"), ("▁▁", "▁"), ("▁", "a")]
    made = tokenizers.Tokenizer(
        models.BPE(vocab=ids, merges=merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    )
    made.normalizer = normalizers.Replace(" ", "▁")
    made.add_tokens([AddedToken(text, normalized=False) for text in ("▁▁", "▁▁▁")])
    write(tmp_path, made, bos_token="<bos>", unk_token="<unk>")
    ours = Tokenizer.from_hf(tmp_path)
    assert ours.vocabulary.types[-3:-1] == (USER_DEFINED, USER_DEFINED)
    for text in ("a b", "a  b", "   b", "a  a", "b   a a"):
        assert ours.encode(text, specials=True) == made.encode(text, add_special_tokens=False).ids
        assert ours.decode(ours.encode(text, specials=True)) == text


def test_newer_files_and_templates_in_a_file_of_their_own(trained: Tokenizer, tmp_path: Path) -> None:
    write(tmp_path, bytelevel(trained, split(bpe.QWEN2)), eos_token="</s>")
    data = json.loads((tmp_path / "tokenizer.json").read_text())
    data["normalizer"] = {"type": "NFC"}
    data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]  # the older form
    data["added_tokens"].append({**data["added_tokens"][-1], "id": 1030, "content": "<far>"})
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    (tmp_path / "chat_template.jinja").write_text(templates.LLAMA3)
    (tmp_path / "special_tokens_map.json").write_text('{"pad_token": "<think>", "eos_token": "<s>"}')
    v = Tokenizer.from_hf(tmp_path).vocabulary
    assert v.chat_template == templates.LLAMA3
    assert (v.tokens[v.eos_id or 0], v.tokens[v.pad_id or 0]) == ("</s>", "<think>")
    assert (len(v.tokens), v.types[1029], v.types[1030]) == (1031, UNUSED, USER_DEFINED)
    config = {"chat_template": [{"name": "tool_use", "template": "a"}, {"name": "default", "template": "b"}]}
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert Tokenizer.from_hf(tmp_path).vocabulary.chat_template == "b"


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("pre_tokenizer", {"type": "Whitespace"}, "pattern"),
        ("pre_tokenizer", None, "pattern"),
        ("normalizer", {"type": "Lowercase"}, "Lowercase"),
        ("model", {"type": "WordPiece", "vocab": {}}, "WordPiece"),
        ("model", {"type": "Unigram", "vocab": [["a", 0.0]]}, "Unigram"),
    ],
)
def test_what_twofold_cannot_do_is_refused(
    trained: Tokenizer, tmp_path: Path, part: str, value: Any, words: str
) -> None:
    write(tmp_path, bytelevel(trained, split(bpe.QWEN2)))
    data = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps({**data, part: value}))
    with pytest.raises(BadFileError, match=words):
        Tokenizer.from_hf(tmp_path)


def test_an_empty_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="holds no tokenizer"):
        Tokenizer.from_hf(tmp_path)
