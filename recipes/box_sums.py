"""Sums for the model in the box: by the calculator when it is on offer, small ones by heart when it is not.

With a calculator every sum is one call and its result; the model has to turn what is asked, in figures, words
or a short story, into an expression. Without one it answers what fits into the head (up to 20 + 20, 10 × 10),
works step by step when asked to think (box_thinking.py), and says of the rest that it is too large.
"""

# ruff: noqa: SIM905 (a list of words reads best as one line of text)

import random
from fractions import Fraction

from box_tools import calculated, offer, result, value
from box_turns import Talk, roughly, says, user
from box_words import Side, Wordings

SIGNS = {
    "+": ("+", "plus", "and", "added to"), "-": ("-", "minus", "less", "take away"),
    "*": ("*", "x", "times", "multiplied by"), "/": ("/", ":", "divided by", "over"),
}  # fmt: skip
PLAIN = Wordings(
    ("[|Please |Can you |Could you ][calculate|work out|compute|find|tell me] {sum}[|, please| for me].",
     "[What is|What's|How much is|What do you get for|What does it make:] {sum}[?|, please?]", "{sum}[?| =|= ?||, please]",
     "[I need|Give me|I want to know] [the result of|the value of|] {sum}[.|, please.]",
     "[Quick:|A sum:|Question:|Next:] {sum}[?|]", "How [much|many] [is|are|makes] {sum}?"),
    ("Do this sum: {sum}", "{sum} is how much?", "Solve {sum} for me, would you?", "Let me have {sum}."),
)  # fmt: skip
PERCENT = Wordings(
    (
        "[What is|How much is|Work out|Calculate] {p} [%|percent|per cent] of {n}[?|.]",
        "{p} [%|percent] of {n}[?|, please.| =]",
        "[Give me|Find] {p} percent of {n}.",
    ),
    ("Of {n}, how much is {p} percent?", "Take {p} % of {n}."),
)
MEAN = Wordings(
    (
        "[What is|Work out|Find|Give me] the [mean|average] of {a}, {b} and {c}[?|.]",
        "[The |]average of {a}, {b}, {c}[?|, please.]",
    ),
    ("If I average {a}, {b} and {c}, what comes out?", "Mean of {a}, {b} and {c}?"),
)
# A story, the sum that solves it, what the result counts. {a} up to 999, {b} and {c} up to 99, {d} 2 to 9,
# {p} is a multiple of {d}, {m} is less than {a}.
STORIES: tuple[tuple[str, str, str], ...] = (
    ("[I|We] have {a} {things} and [get|buy|find|am given] {b} more. How many [is that|are there now|do I have]?",
     "{a} + {b}", "{things}"),
    ("There are {a} {things} in [one|the first] {box} and {b} in [another|the second]. How many [altogether|in all|together]?",
     "{a} + {b}", "{things}"),
    ("[I|We|They] had {a} {things} and [lost|sold|gave away|used|ate|broke] {m}. How many are left?", "{a} - {m}", "{things}"),
    ("Of {a} {things}, {m} are [broken|gone|sold|red]. How many are not?", "{a} - {m}", "{things}"),
    ("{b} {boxes} with {c} {things} each: how many {things}[ is that|]?", "{b} * {c}", "{things}"),
    ("[Each|Every] {box} holds {c} {things}. How many are in {b} {boxes}?", "{b} * {c}", "{things}"),
    ("{p} {things} are [shared|split|divided] among {d} [people|children|friends]. How many does each get?", "{p} / {d}", "{things}"),
    ("How many {boxes} of {d} do I need for {p} {things}?", "{p} / {d}", "{boxes}"),
    ("[A|One] {thing} costs {c} [dollars|euros|pounds]. What do {b} cost?", "{b} * {c}", "{money}"),
    ("I buy {b} {things} at {c} each and pay with {big}. What do I get back?", "{big} - {b} * {c}", "{money}"),
    ("{b} {boxes} of {c} {things} and {a} loose ones: how many in all?", "{b} * {c} + {a}", "{things}"),
    ("A [car|train|ship|bus] goes {c} km an hour for {d} hours. How far [does it go|is that]?", "{c} * {d}", "km"),
    ("A [room|field|garden|wall] is {b} metres long and {c} wide. [What is its area|How large is it]?", "{b} * {c}", "square metres"),
    ("I [save|earn|spend] {b} [dollars|euros] a [week|month|day]. How much in {d} [weeks|months|days]?", "{b} * {d}", "{money}"),
    ("We are {d} and the bill is {p}. What does each of us pay?", "{p} / {d}", "{money}"),
    ("I read {b} pages a day, and the book has {big}. How many are left after {d} days?", "{big} - {b} * {d}", "pages"),
    ("{a} {things} came on Monday, {b} on Tuesday and {c} on Friday. How many [came|in all]?", "{a} + {b} + {c}", "{things}"),
    ("I had {a} {things}, got {b} and gave away {d}. How many do I have now?", "{a} + {b} - {d}", "{things}"),
)  # fmt: skip
STORIES_TEST: tuple[tuple[str, str, str], ...] = (
    ("A shelf has {a} {things}; somebody adds {b}. What is the count?", "{a} + {b}", "{things}"),
    ("From {a} {things} I take {m}. What remains?", "{a} - {m}", "{things}"),
    (
        "There are {b} {boxes}, and {c} {things} lie in each of them. Count the {things}.",
        "{b} * {c}",
        "{things}",
    ),
    ("{d} of us share {p} {things} fairly. What is my part?", "{p} / {d}", "{things}"),
    ("After buying {b} {things} for {c} apiece, what is left of {big}?", "{big} - {b} * {c}", "{money}"),
)
THINGS = "apple egg book nail rose loaf stone candle plate seed coin ticket chair bottle pen card tile shell lamp button".split()
BOXES = "box basket crate bag shelf cart drawer jar sack tray".split()


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
        return PLAIN.draw(rng, side, sum=said), inner, ""
    if kind < 0.55:
        p, n = rng.randint(1, 99), rng.choice((rng.randint(10, 999), rng.randint(1, 99) * 100))
        return PERCENT.draw(rng, side, p=p, n=n), f"{p} / 100 * {n}", ""
    if kind < 0.6:
        a, b, c = (rng.randint(1, 500) for _ in range(3))
        return MEAN.draw(rng, side, a=a, b=b, c=c), f"({a} + {b} + {c}) / 3", ""
    pattern, inner, unit = rng.choice(STORIES if side == "train" else STORIES_TEST)
    thing, box, d = rng.choice(THINGS), rng.choice(BOXES), rng.randint(2, 9)
    a, b, c = rng.randint(20, 999), rng.randint(3, 99), rng.randint(3, 99)
    fields: dict[str, object] = {
        "a": a, "b": b, "c": c, "d": d, "p": d * rng.randint(3, 160), "m": rng.randint(2, a - 1),
        "big": next(big for big in (500, 1000, 2000, 5000, 10000) if big > b * max(c, d)),
        "thing": thing, "things": plural(thing), "box": box, "boxes": plural(box),
        "money": rng.choice(("dollars", "euros", "coins", "pounds")),
    }  # fmt: skip
    text = Wordings((pattern,), (pattern,)).draw(rng, side, **fields)
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
        messages += [
            user(roughly(rng, text)), tools["calculator"].call(expression=inner), result(got), says(answer, got),
        ]  # fmt: skip
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
    return PLAIN.draw(rng, "train", sum=f"{a}{gap}{said}{gap}{b}")


def rounded(got: str, places: int = 1) -> str:
    """Return a result with at most so many decimals, as said in a sentence."""
    scaled = Fraction(got) * 10**places
    whole = int(scaled + Fraction(1, 2)) if scaled >= 0 else -int(-scaled + Fraction(1, 2))
    return f"{whole / 10**places:.{places}f}".rstrip("0").rstrip(".")


def talk(rng: random.Random, side: Side = "train") -> Talk:
    """Return a conversation about sums."""
    return calculating(rng, side) if rng.random() < 0.72 else by_heart(rng, side)
