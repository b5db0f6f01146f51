"""Long conversations as the pager shows them: what was said long ago comes back beside what is asked now.

Where a conversation has outgrown the window, a list says what is out of it, and what fits a question is put
before it, as `[From earlier: …]` (twofold.kernel.window). A model that never saw either takes them for a
passage. Here are such conversations, in the pager's own words: something was told, much was said since, and
then it is asked for. It stands beside the question, among other things that were said; or further back in the
window; or nowhere, and then the assistant was not told.
"""

import random

import box_talk
import box_unknown
from box_lessons import lesson
from box_turns import Message, Talk, roughly, says, user
from box_words import Side, wordings, words

from twofold.kernel.window import below_what_came_back, said_earlier

MOST_BETWEEN = 16  # exchanges in the window
MOST_LISTED = 12  # of what is out of it
HEARD = ("All right.", "Good to know.", "I see.", "I will keep it in mind.")


def talk(rng: random.Random, side: Side = "train") -> Talk:
    """Return what is left in the window of a long conversation, and a question about its beginning."""
    kind = rng.choice(("keep", "keep", "private"))
    asked, question, told, answer = _told(rng, side, kind)
    other = _told(rng, side, rng.choice(("keep", "private")))
    between = rng.choice((1, 2, 4, 8, rng.randint(1, MOST_BETWEEN)))
    window = [_said(rng) for _ in range(between)]
    where = rng.choices(("beside", "in the window", "nowhere"), (0.6, 0.2, 0.2))[0]
    came = [other[2][0]] if rng.random() < 0.5 and other[0] != asked else []
    came += [rng.choice(_said(rng)) for _ in range(rng.choice((0, 0, 1, 1, 2, 3)))]
    if where == "beside":
        came.append(told[0])
    elif where == "in the window":
        window.insert(rng.choice((0, rng.randint(0, between))), told)
    rng.shuffle(came)
    pages = sorted(rng.sample(range(1, rng.choice((40, 90, 400))), 8))
    text = roughly(rng, question)
    if came:
        back = [
            (f"p{2 * page - (one['role'] == 'user')}", one["role"], one["content"])
            for page, one in zip(pages, came, strict=False)
        ]
        text = below_what_came_back(back, text)
    messages = [message for exchange in window for message in exchange]
    if rng.random() < 0.6:
        gone = f"{_gone(rng, 2 * pages[-1] + 1)}\n\n{messages[0]['content']}"
        messages[0] = {**messages[0], "content": gone}
    if where == "nowhere":
        answer = says(f"I do not know {asked}. You have not told me.", box_unknown.NOT_KNOWN)
    return Talk("recall", [*messages, user(text), answer])


def _told(rng: random.Random, side: Side, kind: str) -> tuple[str, str, tuple[Message, Message], Message]:
    """Return what is asked for ("the code of the shed"), the question, how it was told, and the answer."""
    whose, lines, tell, ask = {
        "keep": ("the", "to keep", "keep", "kept"),
        "private": ("your", "private", "private told", "private"),
    }[kind]
    thing, value = box_unknown.fact(rng, side, rng.choice(words(lines)))
    told = wordings(tell).draw(rng, side, thing=thing, value=value)
    question = wordings(ask).draw(rng, side, thing=thing)
    answer = f"{whose} {thing} is {value}."
    right = says(answer[0].upper() + answer[1:], value, never=(box_unknown.NOT_KNOWN,))
    heard = rng.choice((*HEARD, right["content"]))
    return f"{whose} {thing}", question, (user(told), says(heard)), right


def _said(rng: random.Random) -> tuple[Message, Message]:
    """Return something else that was said."""
    small = box_talk.talk(rng, "facts", "filler", "jokes", "self", "feelings", "cannot")
    question, answer = rng.choice((lesson(rng), small))
    return user(roughly(rng, question)), says(answer)


def _gone(rng: random.Random, last: int) -> str:
    """Return the list of what is out of the window, up to this page."""
    lines: list[str] = []
    count = rng.randint(0, min(MOST_LISTED, last // 2 - 1))
    for page in range(last - 2 * count, last, 2):
        for number, one in enumerate(_said(rng)):
            text = one["content"]
            lines.append(f"p{page + number} {one['role']}: {text if len(text) < 60 else text[:58] + ' …'}")
    first = last - 2 * count - 1
    return said_earlier([f"p1 to p{first}: {first} messages", *lines])
