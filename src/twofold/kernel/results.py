"""What a process gets of a result: what it may see, and the names of what stays hidden.

A result is a page of its own, hidden where its label says so. A device may say more exactly who had a part in
what (flow.Tainted): the rest is shown then, and each such part becomes a hidden page with its own name.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from twofold.kernel.device import Returned
from twofold.kernel.flow import Label, Ring, Tainted, join
from twofold.kernel.pages import Page
from twofold.kernel.process import Request, State


def pages(
    state: State,
    request: Request,
    device: str,
    returned: Returned,
    label: Label,
    tokens: Callable[[str], int],
) -> list[Page]:
    """Return the pages that a result makes: its own, then those of its parts."""
    message = {"role": "tool", "tool_call_id": request.id, "name": request.name}
    first = 1 + sum(page.kind == "result" for page in state.pages)

    def page(place: int, value: Any, label: Label, text: str | None = None) -> Page:
        text = spell(value) if text is None else text
        return Page(
            id=f"v{first + place}", kind="result", text=text, label=label, source=request.name,
            tokens=tokens(text), hidden=label.ring is Ring.TOOL and device not in state.program.shown,
            message={"role": "user"} if place else message, inside=f"v{first}" if place else "",
        )  # fmt: skip

    if isinstance(returned.value, Tainted):
        return [page(0, returned.value.value, label.join(returned.value.label))]
    found = list(parts(returned.value))
    if device in state.program.shown:  # nothing is hidden: the process's label rises by all of it
        return [page(0, plain(returned.value), join([label, *(part.label for part in found)]), returned.text)]
    hidden = [page(place, part.value, label.join(part.label)) for place, part in enumerate(found, 1)]
    stubs = iter(hidden)
    value = plain(returned.value, lambda part: next(stubs).stub())
    return [page(0, value, label, None if found else returned.text), *hidden]


def spell(value: Any) -> str:
    """Return a value as a model reads it: a text as it is, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def parts(value: Any) -> Iterator[Tainted]:
    """Yield the parts of a value that others have a say in."""
    if isinstance(value, Tainted):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from parts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from parts(item)


def plain(value: Any, put: Callable[[Tainted], Any] = lambda part: part.value) -> Any:
    """Return a value as JSON, with something in the place of each such part; by default what it is."""
    if isinstance(value, Tainted):
        return put(value)
    if isinstance(value, Mapping):
        return {key: plain(item, put) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, put) for item in value]
    return value
