"""Openly licensed sets for the model in the box: which ones, what is taken from each, and under what licence.

Only sets whose licence allows it are named in `SETS`: public domain, BSD, Apache, CC BY. Sets that are
non-commercial, that were written by other language models' services, or whose licence is unclear are not
used. What is taken from each is little, and chosen for a very small model: short, plain, about no one in
particular. The attribution that the licences ask for goes into the model's card.
"""

import dataclasses
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from box_lessons import article, capital
from box_passages import elsewhere
from box_talk import Message, Turns, blocks

from twofold.corpus.formats.jsonl import records
from twofold.corpus.opening import open_bytes


@dataclasses.dataclass(frozen=True)
class Set:
    """A set of data: its file below the data folder, and what the card says of it."""

    file: str
    title: str
    source: str
    licence: str
    used: str


SETS = {
    "fables": Set(
        "pretrain/aesop_for_children.jsonl.zst", "The Aesop for Children",
        "Library of Congress, read.gov/aesop", "public domain",
        "fables and their morals, as stories told on request",
    ),
    "dictionary": Set(
        "pretrain/wordnet_glosses.jsonl.zst", "Open English WordNet",
        "github.com/globalwordnet/english-wordnet", "CC BY 4.0",
        "meanings of common nouns, reworded into one sentence",
    ),
    "reading": Set(
        "sft/fairytaleqa_train.jsonl.zst", "FairytaleQA, training part", "github.com/uci-soe/FairytaleQAData",
        "Apache-2.0; the stories are in the public domain", "short passages with a question and its answer",
    ),
    "trivia": Set(
        "sft/chatterbot_english.jsonl.zst", "ChatterBot corpus, English",
        "github.com/gunthercox/chatterbot-corpus", "BSD-3-Clause",
        "questions of general knowledge and their answers",
    ),
    "questions": Set(
        "sft/clinc150.jsonl.zst", "CLINC150", "github.com/clinc/oos-eval",
        "CC BY 3.0", "wordings of users' questions; the answers are our own",
    ),
}  # fmt: skip


def rows(data: Path, name: str) -> Iterator[dict[str, Any]]:
    """Return the rows of a set. Raises BadFileError when its file is missing or damaged."""
    path = data / SETS[name].file
    with open_bytes(path) as stream:
        for _, row in records(stream, str(path)):
            yield row


def messages(turns: Turns) -> list[Message]:
    """Return turns as a list of messages."""
    found: list[Message] = []
    for asked, answer in turns:
        found += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return found


def fables(data: Path, rng: random.Random) -> Iterator[Turns]:
    """Return each fable of up to 1,000 characters three times, asked for in three ways, with its moral."""
    for row in rows(data, "fables"):
        text, lesson = " ".join(row["text"].split()), row.get("lesson", "").strip()
        if len(text) > 1000:
            continue
        title = row["title"]
        about = title.removeprefix("The ").removeprefix("Three ").removeprefix("Two ").split(",")[0]
        wishes = [
            f"Tell me the fable of {title[0].lower() + title[1:] if title.startswith('The ') else title}.",
            f"Tell me a fable about {article(about.split(' and ')[0].split(' in ')[0].lower())}.",
            rng.choice(
                ("Tell me a fable.", "Do you know a fable?", "Tell me an old fable.", "A fable, please.")
            ),
        ]
        for wish in wishes:
            turns = [(wish, text)]
            if lesson and rng.random() < 0.6:
                turns.append(
                    (rng.choice(("What is the moral?", "What does it teach?", "And the moral?")), lesson)
                )
            yield turns


CONCRETE = (
    "noun.animal",
    "noun.plant",
    "noun.artifact",
    "noun.food",
    "noun.body",
    "noun.substance",
    "noun.object",
)
UNCOUNTED = ("noun.substance", "noun.food")
COMMON = 10  # times in one shard of simple books
NOT_FOR_CHILDREN = re.compile(
    r"\b(?:sex\w*|slur|offensive|vulgar|obscen\w*|genital\w*|penis|vagina\w*|breast\w*|anus|anal|drug|narcotic|"
    r"contracepti\w*|copulat\w*|intercourse|prostitut\w*|disparag\w*|slang|buttocks|testi\w*|semen)\b"
)


def dictionary(data: Path, rng: random.Random, counts: Counter[str]) -> Iterator[Turns]:
    """Return what a noun means, for nouns that `counts` shows to be common.

    A word with several senses is used when just one of them is a thing one can see or touch, and none is a
    verb or an adjective, since the sense that people mean would often be another.
    """
    entries = list(rows(data, "dictionary"))
    by_id = {entry["id"]: entry for entry in entries}
    senses: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        if entry["pos"] == "n" and entry["words"]:
            senses.setdefault(entry["words"][0], []).append(entry)
    ambiguous = {word for entry in entries if entry["pos"] != "n" for word in entry["words"]}
    for word in sorted(set(senses) - ambiguous):
        things = [sense for sense in senses[word] if sense["lex"] in CONCRETE]
        if len(things) != 1 or len(senses[word]) > 3 or counts[word] < COMMON:
            continue
        if not re.fullmatch("[a-z]{2,}[a-rt-z]", word) or NOT_FOR_CHILDREN.search(things[0]["definition"]):
            continue
        answer = meaning(word, things[0], by_id, counts)
        if answer:
            named = word if things[0]["lex"] in UNCOUNTED else article(word)
            wordings = [f"What is {named}?", f"What does the word {word} mean?", f"What does {word} mean?"]
            for wording in rng.sample([*wordings, f"Explain the word {word}.", f"Define {word}."], 2):
                yield [(wording, answer)]


def meaning(
    word: str, sense: dict[str, Any], by_id: dict[str, dict[str, Any]], counts: Counter[str]
) -> str | None:
    """Return the first part of a definition as a sentence, or None when it makes no plain one."""
    text = re.sub(r"\s*\([^)]*\)\s*", " ", sense["definition"]).split(";")[0].strip()
    named = capital(word if sense["lex"] in UNCOUNTED else article(word))
    if not 8 < len(text) < 110:
        return None
    if text.startswith(("a ", "an ", "the ", "any ")):
        return f"{named} is {text}."
    general = by_id[sense["hypernym"][0]]["words"][0] if sense["hypernym"] else ""
    return f"{named} is a kind of {general}: {text}." if counts[general] >= COMMON else None


def reading(data: Path, rng: random.Random) -> Iterator[Turns]:
    """Return passages of up to 700 characters with questions whose answers stand in them, or in none."""
    passages: dict[str, list[tuple[str, str]]] = {}
    for row in rows(data, "reading"):
        passage, answer = " ".join(row["context"].split()), " ".join(row["answer"].split()).strip(" .")
        if len(passage) <= 700 and answer and answer.lower() in passage.lower() and len(answer) < 80:
            passages.setdefault(passage, []).append((row["question"].strip(), capital(answer) + "."))
    for passage, asked in passages.items():
        for first, *more in (asked[at : at + 2] for at in range(0, len(asked), 2)):
            shape = rng.choice(("{p}\n\n{q}", "Read this: {p}\n\n{q}", "{q}\n\n{p}"))
            yield [(shape.format(p=passage, q=first[0]), first[1]), *(more if rng.random() < 0.5 else [])]
    yield from elsewhere([*passages.items()], rng, len(passages) // 2)


def trivia(data: Path, rng: random.Random) -> Iterator[Turns]:
    """Return questions of general knowledge without names in them, and their answers."""
    seen = set()
    for row in rows(data, "trivia"):
        if row["topic"] != "trivia" or len(row["turns"]) != 2:
            continue
        question, answer = (" ".join(turn.split()) for turn in row["turns"])
        # Capitals within mean names: of people, firms and films, which is not what this model should know.
        plain = question[1:].islower() and answer[1:].islower() and question.isascii()
        if plain and question not in seen and len(question) < 120 and len(answer) < 80:
            seen.add(question)
            yield [(question, capital(answer.rstrip(".")) + ".")]


# The intents of CLINC150 that are used, with a wording of the same wish in box_talk.txt that has our answer …
ASKED_LIKE = {
    "greeting": "Hello.",
    "goodbye": "Goodbye.",
    "thank_you": "Thank you.",
    "are_you_a_bot": "Are you a bot?",
    "what_is_your_name": "What is your name?",
    "who_made_you": "Who made you?",
    "how_old_are_you": "How old are you?",
    "where_are_you_from": "Where are you from?",
    "what_are_your_hobbies": "Do you have hobbies?",
    "do_you_have_pets": "Do you have any pets?",
    "what_can_i_ask_you": "What can I ask you?",
    "meaning_of_life": "What is the meaning of life?",
    "tell_joke": "Tell me a joke.",
    "weather": "What is the weather like?",
    "time": "What time is it?",
    "date": "What day is it today?",
    "user_name": "What is my name?",
    "current_location": "Where am I?",
    "translate": "Translate hello into French.",
    "change_language": "Do you speak French?",
}
# … and those for which there is one answer here.
CANNOT = "I cannot do that. I can only write words to you."
ANSWERED = {
    "alarm timer reminder_update calendar_update todo_list_update shopping_list_update play_music "
    "next_song change_volume smart_home find_phone uber order book_flight book_hotel car_rental "
    "cancel_reservation confirm_reservation restaurant_reservation make_call text pay_bill pin_change "
    "freeze_account transfer report_fraud report_lost_card damaged_card new_card order_checks "
    "pto_request reset_settings share_location schedule_maintenance schedule_meeting sync_device "
    "travel_notification redeem_rewards change_speed change_accent whisper_mode direct_deposit "
    "credit_limit_change update_playlist": CANNOT,
    "balance bill_balance bill_due credit_score transactions spending_history income payday "
    "account_blocked apr credit_limit interest_rate min_payment rewards_balance routing "
    "expiration_date card_declined taxes application_status international_fees": (
        "I do not know anything about your money. I only know what you write to me."
    ),
    "calendar meeting_schedule todo_list reminder shopping_list": (
        "I do not know your plans. I only know what you write to me."
    ),
    "last_maintenance mpg tire_pressure pto_balance pto_request_status pto_used lost_luggage "
    "insurance what_song order_status": (
        "I do not know that about you. I only know what you write to me."
    ),
    "traffic flight_status exchange_rate gas next_holiday distance directions how_busy "
    "restaurant_reviews restaurant_suggestion travel_alert timezone": (
        "I do not know that, because I have no internet."
    ),
    "calories cook_time food_last ingredient_substitution ingredients_list nutrition_info recipe "
    "oil_change_how oil_change_when jump_start tire_change gas_type vaccines international_visa "
    "plug_type travel_suggestion carry_on improve_credit_score rollover_401k w2 insurance_change "
    "meal_suggestion oos": (
        "I do not know that. I am a very small model; a good book can help you."
    ),
    "flip_coin": (
        "I cannot flip a real coin, but let us say: heads."
    ),
    "roll_dice": (
        "I cannot roll real dice, but let us say: four."
    ),
}  # fmt: skip


def answers() -> dict[str, str]:
    """Return the answer to each intent that has only one."""
    return {intent: answer for intents, answer in ANSWERED.items() for intent in intents.split()}


def questions(data: Path, rng: random.Random, per_intent: int = 50) -> Iterator[Turns]:
    """Return users' own wordings of common wishes, with our answers."""
    by_intent: dict[str, list[str]] = {}
    for row in rows(data, "questions"):
        by_intent.setdefault(row["label"], []).append(row["text"])
    fixed = answers()
    for intent in [*ASKED_LIKE, *fixed]:
        texts = sorted(by_intent[intent])
        for text in rng.sample(texts, min(len(texts), per_intent)):
            yield [(text, fixed[intent] if intent in fixed else answer_to(rng, ASKED_LIKE[intent]))]


def answer_to(rng: random.Random, wording: str) -> str:
    """Return an answer from box_talk.txt to exactly this wording."""
    found = [block for some in blocks().values() for block in some if wording in block[0]]
    assert found, f"box_talk.txt has no {wording!r}"
    return rng.choice(found[0][1])
