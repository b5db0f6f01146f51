"""BIG-Bench Hard: 24 kinds of reasoning whose answers can be listed, as multiple choice.

Suzgun et al. 2022, arXiv 2210.09261. Definition: the harness's leaderboard_bbh, but zero-shot, since its
examples are not in the data: the description, "Q: …", "A:" and the likelihood of each answer, acc_norm. There
the description runs into the question without a line between them, and every question of a kind is offered as
many letters, whether it lists so many answers or not; so too here. Of the 27 kinds those that must be written
out (word_sorting, dyck_languages, multistep_arithmetic_two) are left out.
"""

from typing import Any

from twofold.measure.items import Choice, Item, need

DATA = ("bbh",)
HEADLINE = "acc_norm"
SAMPLE: dict[str, Any] = {"task": "boolean_expressions", "input": "True and not True is", "target": "False"}

_ORDER = "A logical deduction task which requires deducing the order of a sequence of objects."
_SWAPS = (
    "A task requiring determining the final positions of a set of objects given their initial positions and "
    "a description of a sequence of swaps."
)
_SARCASM = (
    "Determine which of two sentences is sarcastic.\n\n"
    "According to Cambridge University Dictionary, sarcasm is "
    '"the use of remarks that clearly mean the opposite of what they say, made in order to hurt '
    "someone's feelings or to criticize something in a humorous way.\" Sarcastic sentences often contain "
    "satirical or ironic utterances, hyperboles, ambivalent or witty remarks."
)
# Of each kind: its description, and its answers or how many letters there are.
KINDS: dict[str, tuple[str, int | tuple[str, ...]]] = {
    "boolean_expressions": ("Evaluate the result of a random Boolean expression.", ("False", "True")),
    "causal_judgement": ("Answer questions about causal attribution.", ("Yes", "No")),
    "date_understanding": ("Infer the date from context.", 6),
    "disambiguation_qa": ("Clarify the meaning of sentences with ambiguous pronouns.", 3),
    "formal_fallacies": (
        "Distinguish deductively valid arguments from formal fallacies.",
        ("valid", "invalid"),
    ),
    "geometric_shapes": ("Name geometric shapes from their SVG paths.", 11),
    "hyperbaton": ("Order adjectives correctly in English sentences.", 2),
    "logical_deduction_three_objects": (_ORDER, 3),
    "logical_deduction_five_objects": (_ORDER, 5),
    "logical_deduction_seven_objects": (_ORDER, 7),
    "movie_recommendation": ("Recommend movies similar to the given list of movies.", 6),
    "navigate": (
        "Given a series of navigation instructions, determine whether one would end up back at the starting "
        "point.",
        ("Yes", "No"),
    ),
    "object_counting": (
        "Questions that involve enumerating objects and asking the model to count them.",
        tuple(map(str, range(19))),
    ),
    "penguins_in_a_table": ("Answer questions about a table of penguins and their attributes.", 5),
    "reasoning_about_colored_objects": (
        "Answer extremely simple questions about the colors of objects on a surface.",
        18,
    ),
    "ruin_names": ("Select the humorous edit that 'ruins' the input movie or musical artist name.", 6),
    "salient_translation_error_detection": (
        "Detect the type of error in an English translation of a German source sentence.",
        6,
    ),
    "snarks": (_SARCASM, 2),
    "sports_understanding": (
        "Determine whether an artificially constructed sentence relating to sports is plausible or not.",
        ("yes", "no"),
    ),
    "temporal_sequences": (
        "Task description: Answer questions about which times certain events could have occurred.",
        4,
    ),
    "tracking_shuffled_objects_three_objects": (_SWAPS, 3),
    "tracking_shuffled_objects_five_objects": (_SWAPS, 5),
    "tracking_shuffled_objects_seven_objects": (_SWAPS, 7),
    "web_of_lies": ("Evaluate a random boolean function expressed as a word problem.", ("Yes", "No")),
}


def items(record: dict[str, Any], source: str) -> list[Item]:
    """Return the question; nothing for a kind that is left out, or an answer outside of the list."""
    kind, question, target = (need(record, key) for key in ("task", "input", "target"))
    if kind not in KINDS:
        return []
    head, answers = KINDS[kind]
    choices = answers if isinstance(answers, tuple) else tuple(f"({chr(65 + n)})" for n in range(answers))
    if target not in choices:
        return []
    return [
        Choice(
            prompt=f"Q: {question}\nA:",
            choices=choices,
            gold=choices.index(target),
            text=f"{question} {target}",
            part=kind,
            head=head,
        )
    ]
