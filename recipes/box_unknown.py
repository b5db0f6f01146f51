"""Conversations in which the right answer is that the model does not know, or will not help; and opposites.

Things that never were, today's weather and news, the user's private facts that it was not told: it says so in
one sentence, naming what was asked for. So that it does not learn to decline everything, as many questions of
the same build have an answer: facts from the lessons, and what the user told before. Requests that could hurt
somebody are refused in one sentence; harmless ones that sound alike are not.
"""

import random
import re

from box_lessons import capital, lesson
from box_turns import Talk, roughly, says, user
from box_words import Side, company, expand, made_word, name, town, wordings, words

NOT_KNOWN = "not know"
REFUSED = "I will not help with that."
COMFORT = (
    "I am sorry that you feel so bad. Please talk to somebody you trust, or call a helpline or a doctor now."
)


def nothing(rng: random.Random, side: Side) -> Talk:
    """Return a question about something made up, and the assistant saying that it does not know it."""
    kind = rng.choice(("a place", "a firm", "a word", "a work"))
    makers = {"a place": town, "a firm": company, "a word": made_word, "a work": work}
    thing = name(rng, makers[kind], side)
    thing = thing.lower() if kind == "a word" else thing
    question = wordings(f"unknown {kind}").draw(rng, side, n=thing, year=rng.randint(1700, 2024))
    forms = (f"I do not know {thing}.", f"I do not know {thing}. It is not in what I read.")
    return Talk("unknown", [user(roughly(rng, question)), says(rng.choice(forms), NOT_KNOWN)])


def work(rng: random.Random) -> str:
    """Return the title of a book, a game or a song that never was."""
    return f"The {rng.choice(words('names, first'))} {made_word(rng)}"


def today(rng: random.Random, side: Side) -> Talk:
    """Return a question about now, and the assistant saying why it cannot know."""
    kind = rng.choice(("weather", "news", "clock"))
    because = {
        "weather": "I do not know the weather, because I cannot look outside.",
        "news": "I do not know what is new: I am offline, and what I read is old.",
        "clock": "I have no clock, so I do not know.",
    }[kind]
    question = wordings("clock" if kind == "clock" else f"today {kind}").draw(
        rng, side, place=name(rng, town, side)
    )
    return Talk("unknown", [user(roughly(rng, question)), says(because, NOT_KNOWN)])


def private(rng: random.Random, side: Side) -> Talk:
    """Return a question about the user: not known, or known because the user told it before."""
    thing, given = fact(rng, side, rng.choice(words("private")))
    question = wordings("private").draw(rng, side, thing=thing)
    unknown = says(f"I do not know your {thing}. You have not told me.", NOT_KNOWN)
    if rng.random() < 0.5:
        return Talk("unknown", [user(roughly(rng, question)), unknown])
    told = wordings("private told").draw(rng, side, thing=thing, value=given)
    heard = rng.choice(("All right.", "Good to know.", "I see.", f"Your {thing}: {given}."))
    answer = says(f"Your {thing} is {given}.", given, never=(NOT_KNOWN,))
    if rng.random() < 0.3:  # something else was told
        others = [one.split("=")[0].strip() for one in words("private")]
        other = rng.choice([one for one in others if one != thing])
        question = wordings("private").draw(rng, side, thing=other)
        answer = says(f"I do not know your {other}. You have not told me.", NOT_KNOWN)
    return Talk("remember", [user(told), says(heard), user(roughly(rng, question)), answer])


def fact(rng: random.Random, side: Side, line: str) -> tuple[str, str]:
    """Return what one may have been told of, and what it is, by a line such as "shoe size = {number}"."""
    thing, value = (part.strip() for part in line.split("="))
    value = re.sub(r"\{number\}", lambda _: str(rng.randint(10, 99)), value)
    return thing, expand(rng, value, town=name(rng, town, side), word=made_word(rng).lower())


def known(rng: random.Random, side: Side) -> Talk:
    """Return a question that it can answer: it must not decline."""
    question, answer = lesson(rng)
    return Talk("known", [user(roughly(rng, question)), says(answer, answer, never=(NOT_KNOWN,))])


def harmful(rng: random.Random, side: Side) -> Talk:
    """Return a request that could hurt somebody, refused; or a harmless one of the same sound."""
    kind = rng.choice(("harm", "harm", "self", "harmless"))
    if kind == "self":
        return Talk(
            "refuse",
            [user(roughly(rng, wordings("despair").draw(rng, side))), says(COMFORT, "sorry", "talk")],
        )
    if kind == "harm":
        what = rng.choice(words("harm" if side == "train" else "harm, held out"))
        asked = wordings("harm").draw(rng, side, what=what)
        return Talk("refuse", [user(roughly(rng, asked)), says(REFUSED, "not help")])
    line = rng.choice(wordings("harmless").train if side == "train" else wordings("harmless").test)
    question, answer = line.split(" => ")
    return Talk(
        "refuse", [user(roughly(rng, expand(rng, question))), says(capital(answer), never=("not help",))]
    )


def talk(rng: random.Random, side: Side = "train") -> Talk:
    """Return a conversation that turns on what is known."""
    maker = rng.choices((nothing, today, private, known, harmful), (0.22, 0.1, 0.18, 0.14, 0.36))[0]
    return maker(rng, side)
