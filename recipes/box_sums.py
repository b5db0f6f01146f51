"""Sums for the model in the box: by the calculator when it is on offer, small ones by heart when it is not.

With a calculator every sum is one call and its result; the model has to turn what is asked, in figures, words
or a short story, into an expression. Without one it answers what fits into the head (up to 20 + 20, 10 × 10),
works step by step when asked to think (box_thinking.py), and says of the rest that it is too large.
"""

import random
from fractions import Fraction

from box_tools import calculated, offer, result, value
from box_turns import Talk, roughly, says, user
from box_words import Side, articles, expand, wordings, words

SIGNS = {
    "+": ("+", "plus", "and", "added to"), "-": ("-", "minus", "less", "take away"),
    "*": ("*", "x", "times", "multiplied by"), "/": ("/", ":", "divided by", "over"),
}  # fmt: skip


def plural(word: str) -> str:
    """Return the plural of a word of these lists."""
    if word in ("shelf", "loaf"):
        return word[:-1] + "ves"
    return word + ("es" if word.endswith("x") else "s")


def number(rng: random.Random) -> str:
    """Return a number as people calculate with: mostly whole, of one to six digits, now and then decimal."""
    digits = rng.choices((1, 2, 3, 4, 5, 6), (3, 6, 6, 4, 2, 1))[0]
    whole = rng.randint(10 ** (digits - 1), 10**digits - 1)
    return f"{whole}.{rng.randint(1, 99)}".rstrip("0") if rng.random() < 0.15 else str(whole)


def expression(rng: random.Random) -> tuple[str, str]:
    """Return a sum for the calculator, and as it is asked."""
    sign = rng.choice("++--**/")
    first, second = number(rng), number(rng)
    if rng.random() < 0.2:
        third, other = number(rng), rng.choice("+-*")
        left = (
            f"({first} {sign} {second}) {other} {third}"
            if rng.random() < 0.4
            else f"{first} {sign} {second} {other} {third}"
        )
        return left, left if rng.random() < 0.6 else left.replace(" ", "")
    said = rng.choice(SIGNS[sign][:1] * 3 + SIGNS[sign])
    gap = " " if said.isalpha() or " " in said or rng.random() < 0.7 else ""
    if said == "added to":
        return f"{first} + {second}", f"{first} added to {second}"
    return f"{first} {sign} {second}", f"{first}{gap}{said}{gap}{second}"


def told(rng: random.Random, side: Side) -> tuple[str, str, str]:
    """Return a request for a sum, its expression, and what the result counts (nothing for a bare sum)."""
    kind = rng.random()
    if kind < 0.45:
        inner, said = expression(rng)
        return wordings("sum plain").draw(rng, side, sum=said), inner, ""
    if kind < 0.55:
        p, n = rng.randint(1, 99), rng.choice((rng.randint(10, 999), rng.randint(1, 99) * 100))
        return wordings("sum percent").draw(rng, side, p=p, n=n), f"{p} / 100 * {n}", ""
    if kind < 0.6:
        a, b, c = (rng.randint(1, 500) for _ in range(3))
        return wordings("sum mean").draw(rng, side, a=a, b=b, c=c), f"({a} + {b} + {c}) / 3", ""
    stories = wordings("stories")
    line = rng.choice(stories.train if side == "train" else stories.test)
    pattern, inner, unit = line.split(" => ")
    thing, box, d = rng.choice(words("things")), rng.choice(words("boxes")), rng.randint(2, 9)
    a, b, c = rng.randint(20, 999), rng.randint(3, 99), rng.randint(3, 99)
    fields: dict[str, object] = {
        "a": a, "b": b, "c": c, "d": d, "p": d * rng.randint(3, 160), "m": rng.randint(2, a - 1),
        "big": next(big for big in (500, 1000, 2000, 5000, 10000) if big > b * max(c, d)),
        "thing": thing, "things": plural(thing), "box": box, "boxes": plural(box),
        "money": rng.choice(("dollars", "euros", "coins", "pounds")),
    }  # fmt: skip
    text = articles(expand(rng, pattern, **fields))
    return text, inner.format(**fields), unit.format(**fields)


def calculating(rng: random.Random, side: Side) -> Talk:
    """Return a request for a sum, the call of the calculator, and the answer with its result; maybe twice."""
    tools = offer(rng, ["calculator"], rng.choice((0, 0, 1, 2, 3)), ("python",))
    messages = []
    for _ in range(rng.choice((1, 1, 1, 2))):
        text, inner, unit = told(rng, side)
        try:
            got = calculated(inner)
        except ValueError:  # by zero
            continue
        answer = f"That is {got} {unit}." if unit else f"{inner} = {got}."
        messages += [user(roughly(rng, text)), tools["calculator"].call(expression=inner)]
        messages += [result(got), says(answer, got)]
    return Talk("calculator", messages, tools) if messages else calculating(rng, side)


TOO_LARGE = "That is too large for my head, and I have no calculator here."


def by_heart(rng: random.Random, side: Side) -> Talk:
    """Return a sum without a calculator: answered when it is small, declined when it is not."""
    tools = offer(rng, [], rng.choice((1, 2)), ("calculator", "python")) if rng.random() < 0.2 else {}
    sign = rng.choice("++--*/")
    if rng.random() < 0.8:
        a, b = (
            (rng.randint(0, 10), rng.randint(0, 10))
            if sign in "*/"
            else (rng.randint(0, 20), rng.randint(0, 20))
        )
        if sign == "-" and b > a:
            a, b = b, a
        if sign == "/":
            b = max(1, b)
            a *= b
        said, got = spoken(rng, a, sign, b), str(value(f"{a} {sign} {b}"))
        return Talk("by heart", [user(roughly(rng, said)), says(f"{a} {sign} {b} = {got}.", got)], tools)
    a, b = rng.randint(100, 99999), rng.randint(21, 9999)
    return Talk(
        "by heart", [user(roughly(rng, spoken(rng, a, sign, b))), says(TOO_LARGE, "no calculator")], tools
    )


def spoken(rng: random.Random, a: int, sign: str, b: int) -> str:
    """Return a sum as it is asked."""
    said = rng.choice([word for word in SIGNS[sign] if word not in ("and", "added to", "less", "over")])
    gap = " " if said.isalpha() or " " in said or rng.random() < 0.7 else ""
    return wordings("sum plain").draw(rng, "train", sum=f"{a}{gap}{said}{gap}{b}")


def rounded(got: str, places: int = 1) -> str:
    """Return a result with at most so many decimals, as said in a sentence."""
    scaled = Fraction(got) * 10**places
    whole = int(scaled + Fraction(1, 2)) if scaled >= 0 else -int(-scaled + Fraction(1, 2))
    return f"{whole / 10**places:.{places}f}".rstrip("0").rstrip(".")


def talk(rng: random.Random, side: Side = "train") -> Talk:
    """Return a conversation about sums."""
    return calculating(rng, side) if rng.random() < 0.72 else by_heart(rng, side)
