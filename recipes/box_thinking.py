"""Conversations in which the model thinks when it is asked to: short steps between <think> and </think>.

`/think` beside a question, or a sentence such as "Think first.", asks for it; `/no_think`, or nothing, for
an answer at once. Thoughts are sums digit by digit, products by parts, comparing, counting letters, sorting,
days of the week, and who is older: problems that take more steps than an answer has words.
"""

import random

from box_lessons import DAYS, capital
from box_sums import plural
from box_turns import Talk, roughly, says, user
from box_words import Side, wordings, words

Problem = tuple[str, str, str, str]  # wish, thoughts, answer, what the answer must hold


def addition(a: int, b: int) -> str:
    """Return the steps of a sum, from the last digit to the first."""
    steps, carry = [], 0
    left, right = str(a)[::-1], str(b)[::-1]
    for place in range(max(len(left), len(right))):
        x, y = (int(text[place]) if place < len(text) else 0 for text in (left, right))
        total = x + y + carry
        carried = f" + {carry}" if carry else ""
        steps.append(
            f"{x} + {y}{carried} = {total}" + (f", write {total % 10}, carry 1" if total > 9 else "")
        )
        carry = total // 10
    steps += [f"the carried {carry} in front"] if carry else []
    return "; ".join(steps) + f". So {a} + {b} = {a + b}."


def subtraction(a: int, b: int) -> str:
    """Return the steps of a difference, from the last digit to the first; `a` is the larger."""
    steps, borrow = [], 0
    left, right = str(a)[::-1], str(b)[::-1]
    for place in range(len(left)):
        x, y = int(left[place]) - borrow, int(right[place]) if place < len(right) else 0
        borrow = int(x < y)
        steps.append(f"{x + 10 * borrow} - {y} = {x + 10 * borrow - y}" + (", borrow 1" if borrow else ""))
    return "; ".join(steps) + f". So {a} - {b} = {a - b}."


def product(a: int, b: int) -> str:
    """Return the steps of a product of a number below 1,000 by one below 100, digit by digit."""
    parts, steps = [], []
    for place, digit in enumerate(map(int, reversed(str(b)))):
        pieces = [int(one) * 10**at for at, one in enumerate(reversed(str(a))) if one != "0"][::-1]
        steps += [f"{piece} * {digit} = {piece * digit}" for piece in pieces]
        total = pieces[0] * digit
        for piece in pieces[1:]:
            steps.append(f"{total} + {piece * digit} = {total + piece * digit}")
            total += piece * digit
        steps += [f"times {10**place}: {total * 10**place}"] if place else []
        parts.append(total * 10**place)
    steps += [f"{parts[0]} + {parts[1]} = {sum(parts)}"] if len(parts) > 1 else []
    return "; ".join(steps) + f". So {a} * {b} = {a * b}."


def sums(rng: random.Random, side: Side) -> Problem:
    """Return a sum of larger numbers; the others likewise."""
    sign = rng.choice("++-*")
    a, b = rng.randint(11, 9999), rng.randint(11, 9999)
    if sign == "*":
        a, b = (
            rng.choice((rng.randint(12, 99), rng.randint(100, 999))),
            rng.choice((rng.randint(2, 9), rng.randint(11, 99))),
        )
        b = b if a < 100 else b % 10 or 7
    if sign == "-" and b > a:
        a, b = b, a
    thought = {"+": addition, "-": subtraction, "*": product}[sign](a, b)
    got = {"+": a + b, "-": a - b, "*": a * b}[sign]
    said = {"+": "plus", "-": "minus", "*": "times"}[sign] if rng.random() < 0.3 else sign
    asked = wordings("sum plain").draw(rng, side, sum=f"{a} {said} {b}")
    return asked, thought, f"{a} {sign} {b} = {got}.", str(got)


def larger(rng: random.Random, side: Side) -> Problem:
    numbers = [round(rng.uniform(1, 20), rng.choice((1, 2))) for _ in range(2)]
    if numbers[0] == numbers[1] or rng.random() < 0.4:
        base = rng.randint(1, 30)
        numbers = [float(f"{base}.{rng.randint(11, 99)}"), float(f"{base}.{rng.randint(1, 9)}")]
    a, b = rng.sample(numbers, 2)
    if a == b:
        return larger(rng, side)
    best = max(a, b)
    first = [str(x).split(".") for x in (a, b)]
    if first[0][0] != first[1][0]:
        why = f"Before the point stand {first[0][0]} and {first[1][0]}."
    else:
        parts = [f"{x:.2f}" for x in (a, b)]
        why = f"Before the point both have {first[0][0]}. With two decimals: {parts[0]} and {parts[1]}."
    return (
        wordings("larger").draw(rng, side, a=a, b=b),
        f"{why} {best} is larger.",
        f"{best} is larger.",
        str(best),
    )


def letters(rng: random.Random, side: Side) -> Problem:
    word = rng.choice(words("spelled"))
    letter = rng.choice(word) if rng.random() < 0.85 else rng.choice("abcdefghijklmnoprstuvwy")
    count, steps = 0, []
    for one in word:
        count += one == letter
        steps.append(f"{one}{f' {count}' if one == letter else ''}")
    asked = wordings("letters").draw(rng, side, letter=letter, word=word)
    said = f"There {'is' if count == 1 else 'are'} {count} of {letter} in {word}."
    return asked, f"{', '.join(steps)}. That makes {count}.", said, str(count)


def backwards(rng: random.Random, side: Side) -> Problem:
    word = rng.choice(words("spelled"))
    thought = f"{' '.join(word)}. Backwards: {' '.join(reversed(word))}."
    return wordings("backwards").draw(rng, side, word=word), thought, f"{word[::-1]}", word[::-1]


def days(rng: random.Random, side: Side) -> Problem:
    start, count = rng.randrange(7), rng.randint(2, 25)
    end = DAYS[(start + count) % 7]
    weeks, rest = divmod(count, 7)
    steps = f"{count} days are {weeks} weeks and {rest} days. " if weeks else ""
    path = ", ".join(f"{n}: {DAYS[(start + n) % 7]}" for n in range(1, rest + 1))
    thought = f"{steps}From {DAYS[start]}: {path}." if rest else f"{steps}Whole weeks change nothing."
    return wordings("days").draw(rng, side, day=DAYS[start], n=count), thought, f"It is {end}.", end


def order(rng: random.Random, side: Side) -> Problem:
    if rng.random() < 0.5:
        items = [str(n) for n in rng.sample(range(1, 400), rng.randint(3, 5))]
        sorted_ = sorted(items, key=int)
        kind = "order numbers"
    else:
        items = rng.sample(words("spelled"), rng.randint(3, 5))
        sorted_ = sorted(items)
        kind = "order words"
    rest, steps = list(items), []
    for one in sorted_:
        steps.append(f"first of {', '.join(rest)}: {one}")
        rest.remove(one)
    asked = wordings(kind).draw(rng, side, items=", ".join(items))
    return (
        asked,
        ". ".join(capital(step) for step in steps[:-1]) + ".",
        f"{', '.join(sorted_)}.",
        " ".join(sorted_),
    )


def ages(rng: random.Random, side: Side) -> Problem:
    a, b, c = rng.sample(words("kin"), 3)
    word, opposite = rng.choice((("older", "youngest"), ("taller", "shortest"), ("faster", "slowest")))
    most = {"older": "oldest", "taller": "tallest", "faster": "fastest"}[word]
    lines = [f"{capital(a)} is {word} than {b}.", f"{capital(b)} is {word} than {c}."]
    rng.shuffle(lines)
    asks = rng.random() < 0.5
    answer = a if asks else c
    thought = f"{a} before {b}, {b} before {c}: the order is {a}, {b}, {c}."
    asked = " ".join(lines) + f" Who is the {most if asks else opposite}?"
    return asked, capital(thought), f"{capital(answer)} is the {most if asks else opposite}.", answer


def story(rng: random.Random, side: Side) -> Problem:
    thing = plural(rng.choice(words("things")))
    a, b, c = rng.randint(20, 300), rng.randint(5, 60), rng.randint(2, 19)
    asked = wordings("two steps").draw(rng, side, a=a, b=b, c=c, things=thing)
    thought = f"First {addition(a, b)} Then {subtraction(a + b, c)}"
    return asked, thought, f"There are {a + b - c} {thing}.", str(a + b - c)


PROBLEMS = (sums, sums, sums, sums, larger, letters, backwards, days, order, ages, story)


def thinking(rng: random.Random, side: Side = "train") -> Talk:
    """Return a problem with a wish to think, the thoughts and the answer."""
    asked, thought, answer, must = rng.choice(PROBLEMS)(rng, side)
    text = wordings("think").draw(rng, side).replace("{q}", roughly(rng, asked))
    return Talk("think", [user(text), says(answer, must, thought=thought)])


def at_once(rng: random.Random, side: Side = "train") -> Talk:
    """Return an easy question with a wish not to think, answered at once."""
    a, b = rng.randint(0, 20), rng.randint(0, 20)
    asked = wordings("sum plain").draw(rng, side, sum=f"{a} + {b}")
    if rng.random() < 0.4:
        asked, _, answer, must = rng.choice((larger, ages))(rng, side)
    else:
        answer, must = f"{a} + {b} = {a + b}.", str(a + b)
    text = wordings("no think").draw(rng, side).replace("{q}", roughly(rng, asked))
    return Talk("no think", [user(text), {**says(answer, must), "thinks": False}])


def talk(rng: random.Random, side: Side = "train") -> Talk:
    """Return a problem, to be thought about or not."""
    return thinking(rng, side) if rng.random() < 0.85 else at_once(rng, side)
