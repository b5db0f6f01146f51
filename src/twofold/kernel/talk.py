"""A conversation that is no process: its messages under the same pager, without a journal."""

from collections.abc import Sequence
from typing import Any

from twofold.kernel.flow import USER
from twofold.kernel.pager import Paging
from twofold.kernel.pages import Page
from twofold.kernel.plan import Count, size
from twofold.kernel.ram import Ram
from twofold.kernel.window import Message


class Talk:
    """What is in the window of one conversation. A conversation that begins anew needs a new one."""

    def __init__(self, paging: Paging | None = None) -> None:
        self._paging = paging or Paging()
        self._ram = Ram()

    def window(self, messages: Sequence[Message], room: int, count: Count) -> tuple[list[Message], int, int]:
        """Return messages of at most `room` tokens for those there are, and how many parts of them are out of
        the window and came back into it by this. `count` says how many tokens messages have.

        Raises TwofoldError when the newest message does not fit in any way.
        """
        view = self._paging.window(
            0, [_page(n, m) for n, m in enumerate(messages, 1)], self._ram, room, count
        )
        change = view.change or {}
        self._ram = self._ram.after(change)
        return [dict(message) for message in view.messages], len(self._ram.out), len(change.get("back", ()))


def _page(number: int, message: Message) -> Page:
    """Return a message as a page."""
    kinds = {"system": "instructions", "developer": "instructions", "tool": "result"}
    role: str = message["role"]
    kind = kinds.get(role, role)
    text = str(message["content"] or "")
    rest: dict[str, Any] = {key: value for key, value in message.items() if key != "content"}
    return Page(
        id=f"p{number}", kind=kind, text=text, label=USER, source=kind, tokens=size(text), message=rest
    )  # fmt: skip
