"""Conversations: chats to learn to answer from, with a mask that says which tokens are the model's own.

The file is JSON Lines with one conversation per line: `{"messages": [{"role": "user", "content": "Hi"}, …]}`,
the form that chat APIs speak. A conversation becomes `<|endoftext|>` and then its rendering by the
tokenizer's chat template. Only what the model will have to say itself counts in the loss: the content of the
assistant's messages and the `<|im_end|>` that closes each. The rest (system, user, role marks) is read but
not learned, as is usual in instruction tuning (e.g. Ouyang et al. 2022, arXiv:2203.02155, section 3).

Not covered: pictures and sound in messages.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from twofold.base.errors import BadFileError, UsageError
from twofold.corpus.build import Progress, fingerprint, sources, stamps
from twofold.corpus.documents import Paths, places
from twofold.corpus.formats.jsonl import records, whole_characters
from twofold.corpus.opening import extension, open_bytes
from twofold.corpus.shards import Corpus, Spool, open_corpus, reusable
from twofold.tokens import Tokenizer

ROLES = ("system", "user", "assistant", "tool")

Message = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Conversation:
    """Messages {role, content, …} in order, the tools on offer if any, and where they came from."""

    messages: list[Message]
    source: str
    tools: list[dict[str, Any]] | None = None


def conversations(paths: Paths) -> Iterator[Conversation]:
    """Return the conversations of `.jsonl` files (or `.gz`, `.zst` of them) and folders of such, in order.

    Raises UsageError for paths that lead nowhere, BadFileError with file and line for the first line that is
    no conversation.
    """
    for place in places(paths):
        if place.path is None:
            raise UsageError(f"Conversations are read from files, and {place.name!r} is none.")
        if extension(place.path) != "jsonl":
            if place.named:
                raise UsageError(
                    f"{place.name}: conversations are read from .jsonl files (also .gz and .zst)."
                )
            continue
        with open_bytes(place.path) as stream:
            for number, record in records(stream, place.name):
                yield check(record, place.name, f"{place.name}, line {number}")


def check(record: dict[str, Any], source: str, where: str) -> Conversation:
    """Return the conversation that `record` describes. Raises BadFileError, saying what is wrong `where`."""
    messages = record.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadFileError(f"{where}: no list of messages in the field `messages`.")
    checked = [_message(message, f"{where}, message {n}") for n, message in enumerate(messages, 1)]
    if not any(message["role"] == "assistant" for message in checked):
        raise BadFileError(f"{where}: no message of the assistant, so there is nothing to learn.")
    tools = record.get("tools")
    if tools is not None and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise BadFileError(f"{where}: `tools` must be a list of objects.")
    return Conversation(checked, source, tools)


def _message(message: Any, where: str) -> Message:
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        raise BadFileError(f"{where}: needs a `role` that is one of {', '.join(ROLES)}.")
    content = message.get("content")
    if content is None and message.get("tool_calls"):
        content = ""
    if not isinstance(content, str):
        raise BadFileError(f"{where}: its `content` must be text.")
    if not content.strip() and not message.get("tool_calls"):
        raise BadFileError(f"{where}: its `content` is empty.")
    # White space at the ends would run together with the template's own line ends.
    return {**message, "content": whole_characters(content, where).strip()}


def encode(conversation: Conversation, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the ids of a conversation, `<|endoftext|>` first, and a mask of the same length, 1 on targets.

    The assistant's tokens are found by rendering ever longer beginnings: what a message adds after the prompt
    that asks for it is that message. Raises BadFileError when the chat template does not render a beginning
    of the conversation as a beginning of the text.
    """
    messages, stops = conversation.messages, tokenizer.stop_ids

    def ids_of(count: int, ask: bool) -> list[int]:
        return tokenizer.chat(messages[:count], tools=conversation.tools, add_generation_prompt=ask)

    whole = ids_of(len(messages), False)
    mask = [0] * len(whole)
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = ids_of(index, True)
        after = whole if index + 1 == len(messages) else ids_of(index + 1, False)
        end = max((at + 1 for at, token in enumerate(after) if token in stops), default=len(after))
        if whole[: len(after)] != after or after[: len(before)] != before or end <= len(before):
            raise BadFileError(
                f"{conversation.source}: the chat template rewrites earlier messages when later ones come "
                f"(message {index + 1}), so it cannot be told which tokens are the assistant's."
            )
        mask[len(before) : end] = [1] * (end - len(before))
    return [tokenizer.special_id("<|endoftext|>"), *whole], [0, *mask]


def prepare_conversations(
    data: Paths | Sequence[Conversation],
    folder: str | Path,
    *,
    tokenizer: Tokenizer,
    val_fraction: float = 0.02,
    seed: int = 0,
    max_tokens: int | None = None,
    progress: Progress | None = None,
) -> Corpus:
    """Return the corpus, with masks, of the conversations in files or of a list, written to `folder`.

    Reuse and the held-out part work as in `prepare`. `max_tokens`: leave out longer conversations, which
    would not fit the model's context; their number is reported in `skipped`. `train_bytes` and `val_bytes`
    count the assistant's text only. Raises UsageError or BadFileError.
    """
    if not 0 < val_fraction < 1:
        raise UsageError(f"The held-out fraction must lie between 0 and 1, not {val_fraction}.")
    folder = Path(folder)
    given = _as_conversations(data)
    found = [] if given is not None else places(data)  # type: ignore[arg-type]
    inputs = {
        "train": stamps(found),
        "list": None if given is None else _list_hash(given),
        "tokenizer": fingerprint(tokenizer),
        "val_fraction": val_fraction,
        "seed": seed,
        "max_tokens": max_tokens,
    }
    if reusable(folder, inputs):
        return open_corpus(folder)
    bytes_by_source: dict[str, int] = {}
    too_long: dict[str, int] = {}
    with Spool(folder, tokenizer.vocab_size, masked=True) as spool:
        for conversation in given if given is not None else conversations([p.name for p in found]):
            ids, mask = encode(conversation, tokenizer)
            source = conversation.source
            if max_tokens is not None and len(ids) > max_tokens:
                too_long[source] = too_long.get(source, 0) + 1
                continue
            size = _target_bytes(conversation)
            spool.add(ids, size, int(_fraction(conversation, seed) < val_fraction), mask)
            bytes_by_source[source] = bytes_by_source.get(source, 0) + size
            if progress is not None and len(spool.sizes) % 100 == 0:
                progress("tokenising conversations", sum(bytes_by_source.values()))
        spool.give_both_parts()
        listed = [{"path": name, "sha256": None, "bytes": size} for name, size in bytes_by_source.items()]
        reason = f"conversations longer than {max_tokens} tokens"
        about = {
            "sources": listed if given is not None else sources(found, bytes_by_source),
            "skipped": [{"path": name, "reason": f"{n} {reason}"} for name, n in too_long.items()],
            "inputs": inputs,
        }
        return spool.finish(tokenizer, seed, about)


def _as_conversations(data: Paths | Sequence[Conversation]) -> list[Conversation] | None:
    """Return `data` as a list if it is one of conversations, None if it is paths."""
    if isinstance(data, str | Path):
        return None
    kinds = {isinstance(item, Conversation) for item in data}
    if len(kinds) > 1:
        raise UsageError("Give either paths or conversations, not both in one list.")
    return [item for item in data if isinstance(item, Conversation)] if kinds == {True} else None


def _list_hash(given: Iterable[Conversation]) -> str:
    digest = hashlib.sha256()
    for conversation in given:
        digest.update(json.dumps([conversation.messages, conversation.tools, conversation.source]).encode())
    return digest.hexdigest()


def _target_bytes(conversation: Conversation) -> int:
    return sum(len(m["content"].encode()) for m in conversation.messages if m["role"] == "assistant")


def _fraction(conversation: Conversation, seed: int) -> float:
    """Return a number in [0, 1) that depends on the messages and the seed alone."""
    text = json.dumps(conversation.messages, sort_keys=True).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, key=f"split{seed}".encode()).digest()) / 2**64
