"""The chat template without Jinja: what stands before and after each role's text, for run.c.

A template is a program, but most of them only put strings around texts. We find these strings by rendering
conversations whose texts are easy to find again, and believe them only if a conversation of several turns put
together from them is what the template renders. The result goes into the model file:

    twofold.chat.start                  opens a conversation that has no system message (a BOS, often nothing)
    twofold.chat.system.prefix/.suffix  around the system text; the prefix is all that precedes it (`start`
                                        is not written then), after the suffix a user's turn follows
    twofold.chat.user.prefix/.suffix, twofold.chat.assistant.prefix/.suffix

The assistant's prefix is what asks for an answer, after the user's suffix. A conversation is thus
`start | system`, then user, assistant, user, ... with no BOS added elsewhere. When a template does not fit,
its keys are left out: all of them, or the two of the system's turn alone. Not covered: tools, thinking,
dates (a template that writes today's date has the day of the conversion in its strings).
"""

from collections.abc import Callable

from twofold.base.errors import TwofoldError

Render = Callable[[list[dict[str, str]], bool], str]
_TEXTS = ("Qwxzv one", "Qwxzv two", "Qwxzv three", "Qwxzv four", "Qwxzv five")
_SYSTEM = "Qwxzv six"


def derive(render: Render) -> dict[str, str]:
    """Return the keys above without `twofold.chat.`; {} when the template does not fit.

    `render(messages, add_generation_prompt)` gives the template's text.
    """
    try:
        pieces = _pieces(render)
        if not pieces:
            return {}
    except TwofoldError:
        return {}
    try:
        return pieces | _system(render, pieces)
    except TwofoldError:
        return pieces


def join(pieces: dict[str, str], texts: list[str], system: str | None = None) -> str:
    """Return the conversation of user, assistant, user, ... put together from pieces."""
    text = pieces.get("start", "")
    if system is not None:
        text = pieces["system.prefix"] + system + pieces["system.suffix"]
    for number, said in enumerate(texts):
        role = "assistant" if number % 2 else "user"
        text += pieces[f"{role}.prefix"] + said + pieces[f"{role}.suffix"]
    return text + pieces["assistant.prefix"] if len(texts) % 2 else text


def _messages(count: int, system: bool = False) -> list[dict[str, str]]:
    roles = ("user", "assistant") * 3
    messages = [{"role": r, "content": t} for r, t in zip(roles, _TEXTS[:count], strict=False)]
    return [{"role": "system", "content": _SYSTEM}, *messages] if system else messages


def _split(text: str, texts: tuple[str, ...]) -> list[str] | None:
    """Return what stands before, between and after the texts, or None unless each is there once, in order."""
    gaps = []
    for wanted in texts:
        if text.count(wanted) != 1:
            return None
        gap, _, text = text.partition(wanted)
        gaps.append(gap)
    return [*gaps, text]


def _pieces(render: Render) -> dict[str, str]:
    one = _split(render(_messages(1), False), _TEXTS[:1])
    asked = _split(render(_messages(1), True), _TEXTS[:1])
    two = _split(render(_messages(2), False), _TEXTS[:2])
    five = _split(render(_messages(5), True), _TEXTS)
    if (
        not (one and asked and two and five)
        or not asked[1].startswith(one[1])
        or not five[2].startswith(two[2])
    ):
        return {}
    pieces = {
        "user.prefix": five[2][len(two[2]) :],
        "user.suffix": one[1],
        "assistant.prefix": asked[1][len(one[1]) :],
        "assistant.suffix": two[2],
    }
    if not five[0].endswith(pieces["user.prefix"]):
        return {}
    pieces["start"] = five[0][: len(five[0]) - len(pieces["user.prefix"])]
    # Some templates (Llama 2) write a space before an answer, which the model will write itself.
    space = five[1][len(pieces["user.suffix"] + pieces["assistant.prefix"]) :] and " "
    texts = [space + text if number % 2 else text for number, text in enumerate(_TEXTS)]
    whole = join(pieces, texts) == render(_messages(5), True)
    return pieces if whole and join(pieces, texts[:4]) == render(_messages(4), False) else {}


def _system(render: Render, pieces: dict[str, str]) -> dict[str, str]:
    gaps = _split(render(_messages(1, system=True), True), (_SYSTEM, _TEXTS[0]))
    if not gaps or not gaps[1].endswith(pieces["user.prefix"]):
        return {}
    suffix = gaps[1][: len(gaps[1]) - len(pieces["user.prefix"])]
    found = {"system.prefix": gaps[0], "system.suffix": suffix}
    space = "" if join(pieces, list(_TEXTS)) == render(_messages(5), True) else " "
    texts = [space + text if number % 2 else text for number, text in enumerate(_TEXTS[:3])]
    whole = join(pieces | found, texts, _SYSTEM) == render(_messages(3, system=True), True)
    return found if whole else {}
