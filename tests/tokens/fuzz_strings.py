"""Strings that break tokenizers: every plane of Unicode, damaged UTF-8, look-alikes of special tokens.

`strings(seed, n)` is used by the tests here (a few thousand) and by the soak run (100,000), and always
gives the same strings for the same seed.
"""

import random

_LOOK_ALIKES = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "<|quote_start|>",
    "<|fim_middle|>", "<|reserved_0|>", "<|im_end|", "|im_end|>", "<<|im_end|>>", "<|im_<|im_end|>end|>",
    "<s>", "</s>", "<unk>", "[INST]", "<0x0A>", "<|begin_of_text|>", "<|eot_id|>", "<|IM_END|>",
    "<|im_end |>",
)  # fmt: skip
_ENDINGS = (
    "'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'RE", "'lL", "'\u017f", "'\u017fs", "'K", "\u2019s",
)  # fmt: skip
_DAMAGED = (
    b"\xff", b"\xc0\x80", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80\x80",
    b"\xc3", b"\xe0\x80\xaf", b"\xf8\x88\x80\x80\x80", b"\xf0\x80\x80",
    b"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41",
)  # fmt: skip
_WHITE = (
    " ", "\n", "\r\n", "\r", "\t", "\u00a0", "\u2003",
    "\u2028", "\u3000", "\x0b", "\x0c", "\x85", "\u2581", "\u180e",
)  # fmt: skip
_BLOCKS = (
    (0x20, 0x7F), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x530), (0x590, 0x700),
    (0x900, 0xE00), (0x1100, 0x1200), (0x2000, 0x2070), (0x2070, 0x20D0), (0x2150, 0x2190),
    (0x3040, 0x3100), (0x3200, 0x3400), (0x4E00, 0x5000), (0xAC00, 0xAD00), (0xE000, 0xE010),
    (0xFB00, 0xFB10), (0xFE00, 0xFE10), (0xFF00, 0xFFF0), (0x10000, 0x10200), (0x1D400, 0x1D800),
    (0x1F300, 0x1F700), (0x1F1E6, 0x1F200), (0x20000, 0x20100), (0xE0001, 0xE0080), (0x10FFF0, 0x110000),
)  # fmt: skip
_WORDS = (
    "the", "cat", "sat", "on", "a", "mat", "Hello", "world", "tokens", "don't", "I'll",
    "we've", "x1", "3.14", "https://a.b/c?d=e", "naïve", "Straße", "東京", "привет",
)  # fmt: skip


def strings(seed: int, n: int) -> list[bytes]:
    """Return n strings as bytes; the first ones are the shortest cases, each later one is drawn from the
    seed."""
    random_ = random.Random(seed)
    fixed = [b"", b" ", b"  ", b"\n", b"\x00", b"'", b"a", b"\xe2\x96\x81", b"\r\n\r\n", *_DAMAGED]
    made = [
        b"".join(_part(random_) for _ in range(random_.randint(1, 12))) for _ in range(max(0, n - len(fixed)))
    ]
    return (fixed + made)[:n]


def _part(random_: random.Random) -> bytes:
    kind = random_.randrange(13)
    if kind == 0:  # any character of all 17 planes
        return "".join(_any(random_) for _ in range(random_.randint(1, 6))).encode()
    if kind in (1, 2):  # a few of one script, or of several
        block = random_.choice(_BLOCKS)
        return "".join(chr(random_.randrange(*block)) for _ in range(random_.randint(1, 8))).encode()
    if kind == 3:
        return random_.choice(_DAMAGED)
    if kind == 4:  # any bytes
        return random_.randbytes(random_.randint(1, 6))
    if kind == 5:
        return random_.choice(_LOOK_ALIKES).encode()
    if kind == 6:
        return (random_.choice(_WORDS) + random_.choice(_ENDINGS)).encode()
    if kind == 7:  # a run of one kind of white space
        return random_.choice(_WHITE).encode() * random_.choice((1, 2, 3, 4, 7, 16, 40))
    if kind == 8:  # white space of several kinds
        return "".join(random_.choices(_WHITE, k=random_.randint(1, 6))).encode()
    if kind == 9:  # digits, also those that are not ASCII
        digits = random_.choice(("0123456789", "٠١٢٣", "²³¼Ⅷ", "１２３"))
        return "".join(random_.choices(digits, k=random_.randint(1, 20))).encode()
    if kind == 10:  # combining marks on a letter
        return (
            "e" + "".join(chr(random_.randrange(0x300, 0x370)) for _ in range(random_.randint(1, 5)))
        ).encode()
    if kind == 11:
        return "".join(
            random_.choices("!?.,;:-_=+*/\\|<>[]{}()#@$%^&~`\"'", k=random_.randint(1, 10))
        ).encode()
    return (random_.choice(("", " ")) + random_.choice(_WORDS)).encode()


def _any(random_: random.Random) -> str:
    code = random_.randrange(0x110000 - 0x800)
    return chr(code if code < 0xD800 else code + 0x800)
