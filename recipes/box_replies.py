"""Replies for the model in the box that depend on a word of the question, or on what it just offered.

Poems on any subject, what it does not know, what a user likes, an animal in two sentences, and the yes after
"Shall I tell you a story?". Everything here was written for twofold.
"""

# ruff: noqa: SIM905 (a list of words reads best as one line of text)

import random

from box_lessons import HOMES, LEGS, SOUNDS, WORDS, YOUNG, Exchange, article, capital
from box_sums import TOO_LARGE
from box_tales import ANIMALS, story, tale

POEMS = (
    "The {x} is near, the {x} is far,\n"
    "As quiet as an evening star.\n"
    "I think of it, I write it down,\n"
    "And take it with me through the town.",
    "I saw the {x} at break of day,\n"
    "It seemed to have a word to say.\n"
    "I stood and listened, still and long,\n"
    "And all it had to say was song.",
    "O {x}, you are a thing to see,\n"
    "As plain and fine as things can be.\n"
    "The kings have gold, the rich have land,\n"
    "But I have you, and here I stand.",
    "They asked me what I love the best,\n"
    "The north, the south, the east, the west.\n"
    "I said: the {x}, in sun and snow,\n"
    "And more than that I do not know.",
)
TOPICS = (
    "quantum physics/calculus/algebra/geometry/chemistry/biology/genetics/economics/philosophy/"
    "psychology/law/politics/the stock market/the Roman Empire/the French Revolution/the Middle Ages/"
    "the First World War/black holes/gravity/evolution/electricity/nuclear power/climate change/"
    "the human brain/the immune system/computer science/machine learning/neural networks/"
    "artificial intelligence/programming in Python/cryptography/blockchain/modern art/classical music/"
    "jazz/opera/chess openings/the rules of cricket/football/tax law/insurance/medicine/surgery/"
    "architecture/engineering/rocket science/space travel/volcanoes/earthquakes/plate tectonics/"
    "photosynthesis/Greek philosophy/Latin grammar/Chinese history/ancient Egypt/democracy/capitalism/"
    "inflation/marketing/accounting/grammar/linguistics/statistics/probability/relativity/DNA/vaccines/"
    "antibiotics/submarines/aeroplanes/steam engines/the moon landing/the history of India/"
    "the history of Japan"
).split("/")
TASKS = (
    "cook rice/bake bread/repair a bicycle/change a tyre/learn to swim/plant tomatoes/build a house/"
    "knit a scarf/lose weight/find a job/write a book/learn German/play the piano/paint a wall/"
    "fix my computer/make a website/save money/buy a car/train a dog/grow roses/sew a button/"
    "clean a carpet/make candles/write a letter/invest money"
).split("/")
LIKED = (
    "cats dogs horses birds apples books stories poems flowers trees mountains rivers games songs "
    "trains boats stars cakes pancakes castles gardens forests riddles jokes bicycles rabbits "
    "elephants foxes bees"
).split()
UNCOUNTED = (
    "music tea coffee bread cheese chocolate snow rain football chess swimming reading dancing".split()
)


def poem(rng: random.Random) -> list[Exchange]:
    """Return a wish for a poem about anything, and the poem."""
    subject = rng.choice(WORDS + ANIMALS)
    asked = rng.choice(
        (
            "Write a poem about the {}.",
            "Write a poem about a {}.",
            "A poem about a {}, please.",
            "Can you write a poem about my {}?",
        )
    )
    asked = asked.replace("a {}", article(subject)).format(subject)
    return [(asked, rng.choice(POEMS).format(x=subject))]


def unknown(rng: random.Random) -> list[Exchange]:
    """Return a question that is too hard, and an answer that says so."""
    if rng.random() < 0.3:
        task = rng.choice(TASKS)
        asked = rng.choice(("How do I {}?", "How can I {}?", "Teach me to {}.", "Can you tell me how to {}?"))
        return [
            (
                asked.format(task),
                f"I am too small to know how to {task.replace('my', 'your')}. A good book can help you.",
            )
        ]
    if rng.random() < 0.2:
        a, b = rng.choice((rng.randint(101, 9999), rng.randint(101, 999))), rng.randint(21, 9999)
        asked = rng.choice(("What is {} {} {}?", "{} {} {}", "{}{}{}", "How much is {} {} {}?"))
        return [(asked.format(a, rng.choice("+-*/"), b), TOO_LARGE)]
    topic = rng.choice(TOPICS)
    asked = rng.choice(
        (
            "Explain {}.",
            "Tell me about {}.",
            "What is {}?",
            "What do you know about {}?",
            "Can you explain {} to me?",
            "How does {} work?",
        )
    )
    return [
        (
            asked.format(topic),
            f"I do not know enough about {topic}. I am a very small model; a good book can tell you more.",
        )
    ]


def liking(rng: random.Random) -> list[Exchange]:
    """Return what the user likes or does not like, and a friendly question back."""
    plural = rng.random() < 0.6
    thing = rng.choice(LIKED if plural else UNCOUNTED)
    are, them = ("are", "them") if plural else ("is", "it")
    if rng.random() < 0.25:
        asked = rng.choice(("I do not like {}.", "I hate {}.", "I don't like {}."))
        return [(asked.format(thing), f"That is all right. Not everyone likes {thing}. What do you like?")]
    if rng.random() < 0.3:
        asked = rng.choice(("Do you like {}?", "Do you love {}?", "What do you think of {}?"))
        return [
            (asked.format(thing), f"I am a program, so I only know {thing} from books. Do you like {thing}?")
        ]
    asked = rng.choice(("I like {}.", "I love {}.", "I really like {}.", "I am fond of {}."))
    return [
        (
            asked.format(thing),
            f"{capital(thing)} {are} nice! What do you like about {them}?",
        )
    ]


def about_animal(rng: random.Random) -> list[Exchange]:
    """Return two sentences about an animal, from the tables of the lessons."""
    name, home = rng.choice(HOMES)
    facts = [f"{capital(article(name))} lives in {home}."]
    young, sounds, legs = (dict(table).get(name) for table in (YOUNG, SOUNDS, LEGS))
    more = [f"A young {name} is called {article(young)}."] if young else []
    more += [f"It {sounds}."] if sounds else []
    more += [f"It has {legs}{'' if 'legs' in legs else ' legs'}."] if legs else []
    facts += rng.sample(more, min(len(more), 2))
    asked = rng.choice(
        ("Tell me about the {}.", "Tell me something about a {}.", "What do you know about the {}?")
    )
    return [(asked.replace("a {}", article(name)).format(name), " ".join(facts))]


JOKES = (
    "Why did the clock go to school? It wanted to learn to tell the time.",
    "What did the big candle say to the small candle? I am going out tonight.",
    "Why do bees hum? They forgot the words.",
    "What has four legs but cannot walk? A table.",
    "Why was the broom late? It overswept.",
)


def offer(rng: random.Random) -> list[Exchange]:
    """Return a conversation in which the model offers something and the user takes it."""
    kind = rng.randrange(4)
    if kind == 0:
        first = (
            rng.choice(("I am bored.", "I have nothing to do.")),
            "Then let me tell you a story or a joke. Which would you like?",
        )
        wants_joke = rng.random() < 0.5
        wish = (
            rng.choice(("A joke.", "A joke, please.", "joke"))
            if wants_joke
            else rng.choice(("A story.", "A story, please.", "story"))
        )
        return [first, (wish, rng.choice(JOKES) if wants_joke else tale(rng, *rng.sample(ANIMALS, 2)))]
    if kind == 1:
        sorry = "I am sorry. A good friend or a walk outside can help. Shall I tell you a story?"
        asked = rng.choice(("I am sad.", "I had a bad day.", "Good evening!", "Talk to me."))
        said = {
            "I am sad.": sorry,
            "I had a bad day.": sorry,
            "Good evening!": "Good evening! Shall I tell you a story?",
            "Talk to me.": "Gladly! Shall I tell you a story, or would you like to ask me something?",
        }[asked]
        if rng.random() < 0.25:
            return [
                (asked, said),
                (
                    rng.choice(("No, thank you.", "No.", "Not now.")),
                    "All right. Just write when you want to talk.",
                ),
            ]
        yes = rng.choice(("Yes, please.", "Yes!", "Yes.", "Sure.", "A story, please.", "Okay."))
        return [(asked, said), (yes, tale(rng, *rng.sample(ANIMALS, 2)))]
    if kind == 2:
        how = rng.choice(("How are you?", "Hello, how are you?", "How are you today?"))
        fine = rng.choice(
            ("I am fine.", "Good, thanks.", "I am well too.", "Very well.", "Fine, thank you.", "I'm good.")
        )
        back = rng.choice(
            (
                "I am well, thank you. How are you?",
                "All my numbers are in their places, thank you. And how are you?",
            )
        )
        return [(how, back), (fine, "I am glad to hear it. What would you like to talk about?")]
    again = rng.choice(("Another one.", "Another one, please.", "One more!", "Tell me another one."))
    if rng.random() < 0.5:
        one, other = rng.sample(JOKES, 2)
        return [("Tell me a joke.", one), (again, other)]
    return [story(rng)[0], (again, tale(rng, *rng.sample(ANIMALS, 2)))]
