"""Conversations for the model in the box, made by a program: small talk, lessons, tales, remembering.

`conversation(rng)` returns the messages of one. Small talk comes from box_talk.txt, which is meant to be read
and added to; sums, opposites, capitals and so on from box_lessons.py; stories from box_tales.py. No sentence
was copied from another data set and none was written by another language model's service.
"""

# ruff: noqa: SIM905 (a list of words reads best as one line of text)

import functools
import random
from collections.abc import Callable
from pathlib import Path

from box_lessons import ANIMALS_KNOWN, WORDS, Exchange, capital, lesson
from box_replies import about_animal, liking, offer, poem, unknown
from box_tales import story

Turns = list[Exchange]
Message = dict[str, str]
Block = tuple[list[str], list[str]]

SYSTEMS = (
    "You are a helpful assistant.",
    "You are a friendly little model that runs offline.",
    "Answer in one or two short sentences.",
    "You are a kind teller of stories.",
)


@functools.cache
def blocks() -> dict[str, list[Block]]:
    """Return the blocks of box_talk.txt by group: {group: [(wordings, answers), …]}."""
    found: dict[str, list[Block]] = {}
    group = ""
    for chunk in Path(__file__).with_name("box_talk.txt").read_text().split("\n\n"):
        wordings, answers = [], []
        for line in chunk.splitlines():
            if line.startswith("["):
                group = line.strip("[]")
            elif line.startswith("? "):
                wordings.append(line[2:])
            elif line.startswith("! "):
                answers.append(line[2:].replace(" / ", "\n"))
        if wordings:
            assert answers, f"no answer to {wordings[0]!r}"
            found.setdefault(group, []).append((wordings, answers))
    return found


def talk(rng: random.Random, *groups: str) -> Exchange:
    """Return a wording and an answer from a block of one of these groups (any if none is given)."""
    candidates = [block for name, some in blocks().items() if not groups or name in groups for block in some]
    # A block with many wordings is one that people come with often.
    weights = [len(wordings) ** 0.7 for wordings, _ in candidates]
    wordings, answers = rng.choices(candidates, weights)[0]
    return rng.choice(wordings), rng.choice(answers)


def roughen(rng: random.Random, text: str) -> str:
    """Return the text as people type it: now and then without capitals or the last mark, or more politely."""
    chance = rng.random()
    if chance < 0.12:
        text = text.lower()
    elif chance < 0.2:
        text = text.rstrip(".?!") or text
    elif chance < 0.28:
        text = text.lower().rstrip(".?!") or text
    elif chance < 0.31 and text.endswith("?"):
        text = rng.choice(("Please tell me: ", "I have a question. ", "One question: ")) + text
    elif chance < 0.33:
        text = text.upper()
    return text


ONE_TO_99 = [str(number) for number in range(1, 100)]
NICKNAMES = [capital(word) for word in ANIMALS_KNOWN]
# What the user says, what he asks later, the answer, and what may stand in the gap. Nicknames are animals, so
# that no one's name is in the data.
REMEMBERED = (
    ("My favourite colour is {}.", "What is my favourite colour?", "Your favourite colour is {}.",
     "red blue green yellow black white brown pink orange purple grey".split()),
    ("My favourite animal is the {}.", "What is my favourite animal?", "Your favourite animal is the {}.",
     ANIMALS_KNOWN),
    ("My favourite number is {}.", "What is my favourite number?", "Your favourite number is {}.", ONE_TO_99),
    ("My favourite food is {}.", "What is my favourite food?", "Your favourite food is {}.",
     "bread cheese soup cake rice fish honey apples pears plums cherries pancakes noodles beans".split()),
    ("I have a {}.", "What do I have?", "You have a {}.",
     "dog cat horse boat garden bicycle drum kite piano parrot".split()),
    ("I live near {}.", "Where do I live?", "You live near {}.",
     "the sea/a river/a forest/the mountains/a lake/a big city/a small town/the station".split("/")),
    ("I work as a {}.", "What is my job?", "You work as a {}.",
     "baker teacher nurse farmer gardener driver cook painter carpenter sailor doctor tailor smith".split()),
    ("I am {} years old.", "How old am I?", "You are {} years old.", ONE_TO_99[5:90]),
    ("My name is {}.", "What is my name?", "Your name is {}.", NICKNAMES),
    ("Call me {}.", "What is my name?", "You asked me to call you {}.", NICKNAMES),
    ("The secret word is {}.", "What is the secret word?", "The secret word is {}.", WORDS),
    ("Remember the number {}.", "Which number did I tell you?", "You told me the number {}.", ONE_TO_99),
    ("I put the key in the {}.", "Where is the key?", "You put the key in the {}.",
     "kitchen garden basket pocket drawer box barn cellar cup shoe".split()),
)  # fmt: skip


def remembering(rng: random.Random) -> Turns:
    """Return a conversation in which the user says something and asks for it later."""
    told, asked, answer, choices = rng.choice(REMEMBERED)
    thing = rng.choice(choices)
    if told.startswith(("My name", "Call me")):
        reply = f"Nice to meet you, {thing}!"
    else:
        reply = rng.choice(("I see. {}", "Good to know. {}", "{}")).format(answer.format(thing))
    turns = [(told.format(thing), reply)]
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        turns.append(rng.choice((lesson, lambda r: talk(r, "facts", "filler", "jokes")))(rng))
    return [*turns, (asked, answer.format(thing))]


def repeating(rng: random.Random) -> Turns:
    """Return a conversation in which the model repeats its last answer, the user's words, or given words."""
    if rng.random() < 0.5:
        words = " ".join(rng.sample(WORDS, rng.randint(1, 5)))
        asked = rng.choice(("Repeat after me: {}", "Say: {}", "Repeat: {}", "Please say {}"))
        return [(asked.format(words), words)]
    asked, answer = rng.choice((lesson, lambda r: talk(r, "facts", "self", "hello", "jokes")))(rng)
    if rng.random() < 0.6:
        again = rng.choice(
            (
                "Say that again.",
                "Can you repeat that?",
                "Please repeat.",
                "What did you say?",
                "Once more, please.",
                "Pardon?",
                "Again, please.",
            )
        )
        return [(asked, answer), (again, answer)]
    again = rng.choice(
        ("What did I ask?", "What did I just say?", "What was my question?", "Repeat my question.")
    )
    return [(asked, answer), (again, f"You said: {asked}")]


SENTENCES = (
    "The {a} is near the {b}.",
    "I saw the {a} and the {b} yesterday.",
    "There was a {b} beside the {a}.",
    "My {a} is older than your {b}.",
)


NOUNS = (
    "dog cat boat house bird river horse mouse castle garden tree table chair window ship ladder lantern"
).split()


def sentence(rng: random.Random) -> Turns:
    """Return a wish for a sentence with a word, and the sentence."""
    a, b = rng.sample(NOUNS, 2)
    asked = rng.choice(
        ("Make a sentence with the word {}.", "Write a sentence about a {}.", "Use {} in a sentence.")
    )
    return [(asked.format(a), rng.choice(SENTENCES).format(a=a, b=b))]


def small_talk(rng: random.Random) -> Turns:
    """Return one exchange of small talk, but for greetings and goodbyes."""
    return [talk(rng, "self", "can", "feelings", "filler", "cannot", "facts", "jokes", "said")]


def one_lesson(rng: random.Random) -> Turns:
    """Return one lesson."""
    return [lesson(rng)]


def chain(rng: random.Random) -> Turns:
    """Return a longer conversation: greeting, a few exchanges of any kind, thanks, goodbye."""
    turns = [talk(rng, "hello")] if rng.random() < 0.7 else []
    for _ in range(rng.randint(1, 4)):
        turns += rng.choice((small_talk, small_talk, one_lesson, one_lesson, liking, unknown))(rng)
    turns += [talk(rng, "thanks")] if rng.random() < 0.5 else []
    return turns + ([talk(rng, "bye")] if rng.random() < 0.4 else [])


MAKERS: tuple[tuple[float, Callable[[random.Random], Turns]], ...] = (
    (0.20, lambda rng: [talk(rng)]),
    (0.19, one_lesson),
    (0.14, chain),
    (0.16, story),
    (0.07, remembering),
    (0.04, repeating),
    (0.02, sentence),
    (0.03, poem),
    (0.05, unknown),
    (0.03, liking),
    (0.02, about_animal),
    (0.05, offer),
)


def conversation(rng: random.Random) -> list[Message]:
    """Return the messages of one conversation; one in twenty begins with a system message."""
    weights, makers = zip(*MAKERS, strict=True)
    maker = rng.choices(makers, weights)[0]
    turns = maker(rng)
    messages = [{"role": "system", "content": rng.choice(SYSTEMS)}] if rng.random() < 0.05 else []
    for asked, answer in turns:
        messages += [
            {"role": "user", "content": asked if maker is repeating else roughen(rng, asked)},
            {"role": "assistant", "content": answer},
        ]
    return messages


def made(count: int, seed: int) -> list[list[Message]]:
    """Return `count` conversations, the same for the same seed; each block of small talk occurs in some."""
    rng = random.Random(seed)
    every = [
        [{"role": "user", "content": asked}, {"role": "assistant", "content": rng.choice(answers)}]
        for some in blocks().values()
        for wordings, answers in some
        for asked in wordings
    ]
    return [*every, *(conversation(rng) for _ in range(max(0, count - len(every))))][:count]
