"""From a text to a question: what can tell good answers to it."""

from collections.abc import Callable, Sequence

from twofold import environments
from twofold.think.choosing import Scorer
from twofold.think.policy import Question


def ask(
    text: str, ids: Sequence[int], prompt: Callable[[str], list[int]], scorer: Scorer | None = None
) -> Question:
    """Return the question of a text that the model reads as `ids`.

    A text that is a problem of a task whose answers can be checked without knowing them brings the task's
    checker. A position of a game is a question for a move; `prompt` says what the model reads for the text of
    another. Everything else is judged by `scorer`, if any.
    """
    found = environments.recognise(text)
    if found is None:
        return Question(ids, scorer=scorer)
    name, task, problem = found
    if hasattr(task, "position"):
        return Question(ids, position=task.position(problem), prompt=prompt)

    def verifier(answer: str) -> float:
        return float(task.reward(problem, answer))

    return Question(ids, verifier=verifier, checker=f"{name}'s checker")
