"""SentencePiece's tokenizer.model: a protocol buffer, read by hand because only six of its fields matter.

Format: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto and
https://protobuf.dev/programming-guides/encoding. A message is a row of (field number, value). Not covered:
models of the Unigram kind, and the normaliser's table of characters (Llama's and Mistral's is the
identity).
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path

from twofold.base.errors import BadFileError
from twofold.tokens.vocabulary import CONTROL, SPACE, USER_DEFINED, Vocabulary

Value = int | bytes
_BPE = 2


def read(path: Path) -> Vocabulary:
    """Return the vocabulary in a tokenizer.model. Raises BadFileError."""
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise BadFileError(f"{path} cannot be read: {error}.") from None
    except (ValueError, IndexError, struct.error) as error:
        raise BadFileError(f"{path} is not a SentencePiece model, or damaged: {error}.") from None


def parse(data: bytes) -> Vocabulary:
    """Return the vocabulary in the bytes of a tokenizer.model. Raises ValueError when damaged."""
    tokens, scores, types = [], [], []
    trainer: dict[int, Value] = {}
    normalizer: dict[int, Value] = {}
    for number, value in _fields(data):
        if number == 1:
            piece = dict(_fields(_bytes(value)))
            tokens.append(_bytes(piece.get(1, b"")).decode())
            (score,) = struct.unpack("<f", _bytes(piece.get(2, bytes(4))))
            scores.append(score)
            types.append(_int(piece.get(3, 1)))
            if types[-1] == USER_DEFINED:  # found in text as it is, where spaces are spaces
                tokens[-1] = tokens[-1].replace(SPACE, " ")
        elif number == 2:
            trainer = dict(_fields(_bytes(value)))
        elif number == 3:
            normalizer = dict(_fields(_bytes(value)))
    if _int(trainer.get(3, 1)) != _BPE:
        raise ValueError("its kind is not BPE, the only one that twofold reads")
    if not all(map(math.isfinite, scores)):
        raise ValueError("a score is not a number")
    ids = {name: _special(trainer, number, default, tokens) for name, number, default in _IDS}
    bos = ids["bos_id"]
    return Vocabulary(
        kind="spm",
        pre="default",
        tokens=tuple(tokens),
        types=tuple(types),
        scores=tuple(scores),
        add_bos=bos is not None and types[bos] == CONTROL,
        add_space_prefix=bool(_int(normalizer.get(3, 1))),
        unk_id=ids["unk_id"],
        bos_id=bos,
        eos_id=ids["eos_id"],
        pad_id=ids["pad_id"],
    )


_IDS = (("unk_id", 40, 0), ("bos_id", 41, 1), ("eos_id", 42, 2), ("pad_id", 43, -1))


def _special(trainer: dict[int, Value], number: int, default: int, tokens: list[str]) -> int | None:
    token = _int(trainer.get(number, default))
    return token if 0 <= token < len(tokens) else None  # -1, as 64 bits, means none


def _int(value: Value) -> int:
    if not isinstance(value, int):
        raise ValueError("a number is missing")
    return value


def _bytes(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a text is missing")
    return value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at `at` and where it ends: seven bits a byte, lowest first, top bit for "more"."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number is too long")


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """Yield (field number, value); a value of 4 or 8 bytes, a text or a message come as bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} is unknown")
        if size > len(data) - at:
            raise ValueError("it ends too early")
        yield key >> 3, data[at : at + size]
        at += size
