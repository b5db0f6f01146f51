"""Text to token ids and back: the one tokenizer that training, running and serving share.

Special tokens are cut out first, here; ordinary text then goes to `tokenizers` (byte-level BPE) or to
sentencepiece.py. The rules are those of reference.py, which is the page to read. Not covered: offsets of
tokens in the text, truncation, padding.
"""

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from twofold.base.errors import BadFileError, UsageError
from twofold.base.files import write_text
from twofold.tokens import bpe, chat, ggml, huggingface, turns
from twofold.tokens.reference import clean
from twofold.tokens.sentencepiece import SentencePiece
from twofold.tokens.specials import END_OF_TEXT, SEPARATORS, SPECIALS, STOPS
from twofold.tokens.vocabulary import CONTROL, SPACE, UNUSED, Vocabulary

_SMALLEST = 320  # 256 bytes and 32 special tokens, up to a multiple of 64


@functools.cache
def chatml() -> str:
    """Return the chat template of the models made here."""
    return resources.files("twofold.tokens").joinpath("chatml.jinja").read_text("utf-8")


class Tokenizer:
    """A tokenizer over a `Vocabulary`. Raises BadFileError when the vocabulary cannot be used."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._user_defined = vocabulary.specials(controls=False)
        self._all_specials = vocabulary.specials(controls=True)
        self._find_user_defined = _finder(self._user_defined)
        self._find_all = _finder(self._all_specials)
        self._piece = functools.lru_cache(maxsize=1 << 16)(vocabulary.token_bytes)
        if vocabulary.kind == "spm":
            self._ordinary: Callable[[str], list[int]] = SentencePiece(vocabulary).encode
            return
        try:
            self._package = bpe.build(vocabulary)
        except Exception as error:  # the package raises bare Exceptions
            raise BadFileError(f"The tokenizer's merges cannot be used: {error}.") from None
        self._ordinary = lambda text: list(self._package.encode(text, add_special_tokens=False).ids)

    # ---- making, reading, writing

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Return a tokenizer of exactly `vocab_size` tokens learned from `texts`, the 32 special ones last.

        Byte-level BPE under Qwen2's pattern, with the ChatML template and `<|endoftext|>` as end and padding.
        Raises UsageError unless `vocab_size` is a multiple of 64 and at least 320.
        """
        if vocab_size % 64 or vocab_size < _SMALLEST:
            raise UsageError(
                f"The vocabulary size must be a multiple of 64 and at least {_SMALLEST}, not {vocab_size}."
            )
        tokens, types, merges = bpe.train(map(clean, texts), vocab_size - len(SPECIALS))
        end = len(tokens) + SPECIALS.index(END_OF_TEXT)
        return cls(
            Vocabulary(
                kind="bpe",
                pre="qwen2",
                tokens=(*tokens, *SPECIALS),
                types=(*types, *[CONTROL] * len(SPECIALS)),
                merges=tuple(merges),
                eos_id=end,
                pad_id=end,
                chat_template=chatml(),
            )
        )

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any]) -> "Tokenizer":
        """Return the tokenizer in a GGUF file's metadata. Raises BadFileError."""
        return cls(ggml.from_metadata(metadata))

    def to_gguf(self) -> dict[str, Any]:
        """Return GGUF metadata: tokenizer.*, twofold.unicode (uint32 of numpy) and twofold.chat.*."""
        return ggml.to_metadata(self.vocabulary, self.turns())

    @classmethod
    def from_hf(cls, folder: str | Path) -> "Tokenizer":
        """Return the tokenizer in a Hugging Face folder. Raises BadFileError."""
        return cls(huggingface.read_folder(Path(folder)))

    def to_hf(self, folder: str | Path) -> None:
        """Write the tokenizer's files into a Hugging Face folder."""
        huggingface.write_folder(self.vocabulary, Path(folder))

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Return the tokenizer in a tokenizer.json. Raises BadFileError."""
        path = Path(path)
        return cls(huggingface.from_json(huggingface.read_json(path), {}, path))

    def save(self, path: str | Path) -> None:
        """Write everything into one tokenizer.json, which the `tokenizers` package reads too."""
        write_text(path, huggingface.to_json(self.vocabulary))

    def padded(self, size: int) -> "Tokenizer":
        """Return the tokenizer with unused tokens behind it up to `size`, the rows of a model's table."""
        v = self.vocabulary
        names = tuple(f"<|padding_{n}|>" for n in range(len(v.tokens), size))
        if not names:
            return self
        scores = (*v.scores, *[0.0] * len(names)) if v.scores else ()
        types = (*v.types, *[UNUSED] * len(names))
        return Tokenizer(
            Vocabulary(**{**v.__dict__, "tokens": v.tokens + names, "types": types, "scores": scores})
        )

    # ---- text and ids

    @property
    def vocab_size(self) -> int:
        """The number of tokens, special and unused ones included."""
        return len(self.vocabulary.tokens)

    def encode(self, text: str | bytes, *, specials: bool = False) -> list[int]:
        """Return the ids of `text`; bytes that are not UTF-8 count as U+FFFD. No BOS is added.

        `specials`: spelled control tokens become those tokens. Without it no text can make one.
        """
        return self._encode(clean(text), specials, None)

    def encode_batch(self, texts: Sequence[str | bytes], *, specials: bool = False) -> list[list[int]]:
        """Return the ids of each text, as `encode` does; byte-level BPE uses several threads."""
        if self.vocabulary.kind == "spm" or specials or self._user_defined:
            return [self.encode(text, specials=specials) for text in texts]
        encodings = self._package.encode_batch_fast([clean(text) for text in texts], add_special_tokens=False)
        return [list(encoding.ids) for encoding in encodings]

    def _encode(self, text: str, controls: bool, guard: chat.Guard | None) -> list[int]:
        """Return the ids; `guard` gives back its hidden characters once the control tokens are cut out."""
        spm = self.vocabulary.kind == "spm"
        if spm:
            text = text.replace(SPACE, " ")
        find, known = (
            (self._find_all, self._all_specials)
            if controls
            else (self._find_user_defined, self._user_defined)
        )
        ids: list[int] = []
        for n, part in enumerate(find.split(text) if find else [text]):
            if n % 2:
                ids.append(known[part])
            elif part and guard is not None:
                ids += self._encode(guard.show(part), False, None)
            elif part:
                ids += self._ordinary(" " + part if spm and self.vocabulary.add_space_prefix else part)
        return ids

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes that the tokens stand for, one after the other; of control tokens their names."""
        return b"".join(self.token_bytes(token) for token in ids)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of the tokens; U+FFFD where it is not UTF-8.

        The space that SentencePiece puts in front of a text is taken away again.
        """
        text = self.decode_bytes(ids).decode("utf-8", "replace")
        return text.removeprefix(" ") if self.vocabulary.add_space_prefix else text

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that one token stands for. Raises UsageError for an id out of range."""
        if not 0 <= token < self.vocab_size:
            raise UsageError(f"There is no token {token}: ids are 0 to {self.vocab_size - 1:,}.")
        return self._piece(int(token))

    def special_id(self, name: str) -> int:
        """Return the id of a special token by its spelling. Raises UsageError when there is none."""
        token = self._all_specials.get(name)
        if token is None:
            raise UsageError(f"This tokenizer has no special token {name!r}.")
        return token

    @property
    def stop_ids(self) -> frozenset[int]:
        """The ids that end an answer."""
        found = {token for name, token in self._all_specials.items() if name in STOPS}
        end = self.vocabulary.eos_id
        return frozenset(found if end is None else found | {end})

    @property
    def separator_id(self) -> int:
        """The id that begins each document of a corpus and occurs in none: `<|endoftext|>` or its like.

        Raises UsageError when there is none.
        """
        tokens = self.vocabulary.tokens
        name = next((name for name in SEPARATORS if name in tokens), None)
        if name is None:
            raise UsageError(f"This vocabulary has no token to part documents by, as {SEPARATORS[0]} is.")
        return tokens.index(name)

    # ---- conversations

    def render(
        self,
        messages: Sequence[chat.Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **values: Any,
    ) -> str:
        """Return the text of a conversation by the chat template, as transformers would render it.

        For reading: what a message spells looks like a token here. `chat` gives the ids. Raises UsageError.
        """
        values |= {"tools": tools, "add_generation_prompt": add_generation_prompt}
        return chat.render(self._template(), messages, self._names(), **values)

    def chat(
        self,
        messages: Sequence[chat.Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **values: Any,
    ) -> list[int]:
        """Return the ids of a conversation by the chat template; no message can spell a control token.

        `messages`: role and content each; also tool_calls, and role "tool". `tools`: JSON schemas of
        functions.
        `values`: what else the template knows. Raises UsageError when the template refuses the messages.
        """
        chat.check(messages)
        controls = [name for name, token in self._all_specials.items() if name not in self._user_defined]
        guard = chat.Guard(controls, self._template(), [messages, tools, values])
        hidden = {key: guard.hide(value) for key, value in values.items()}
        hidden |= {"tools": guard.hide(tools), "add_generation_prompt": add_generation_prompt}
        text = chat.render(self._template(), guard.messages(messages), self._names(), **hidden)
        return self._encode(clean(text), True, guard)

    def turns(self) -> dict[str, str]:
        """Return the strings that the chat template puts around texts; {} if not fixed. See turns.py."""
        if self.vocabulary.chat_template is None:
            return {}
        return turns.derive(lambda messages, ask: self.render(messages, add_generation_prompt=ask))

    def _template(self) -> str:
        if self.vocabulary.chat_template is None:
            raise UsageError("This model has no chat template: it continues text (twofold complete).")
        return self.vocabulary.chat_template

    def _names(self) -> dict[str, str]:
        v = self.vocabulary
        ids = {"bos_token": v.bos_id, "eos_token": v.eos_id, "pad_token": v.pad_id, "unk_token": v.unk_id}
        return {name: v.tokens[token] for name, token in ids.items() if token is not None}


def _finder(specials: Iterable[str]) -> re.Pattern[str] | None:
    """Return the pattern that finds special tokens from left to right, the longest first."""
    ordered = sorted(specials, key=len, reverse=True)
    return re.compile("(" + "|".join(map(re.escape, ordered)) + ")") if ordered else None
