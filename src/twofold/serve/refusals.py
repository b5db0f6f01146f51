"""Saying no: why a request is not answered, a status and a sentence that each family puts into its form."""

from typing import Literal

from twofold.base.errors import TwofoldError, UsageError

Kind = Literal[
    "invalid", "key", "forbidden", "unknown", "method", "slow", "large", "media", "busy", "upstream", "bug"
]

STATUS: dict[Kind, int] = {
    "invalid": 400, "key": 401, "forbidden": 403, "unknown": 404, "method": 405, "slow": 408, "large": 413,
    "media": 415, "busy": 503, "upstream": 502, "bug": 500,
}  # fmt: skip


class Refusal(TwofoldError):  # noqa: N818 - an answer, and not a mistake of ours
    """A request that is refused. `where`: the field that is wrong; `code`: a word for programs."""

    def __init__(
        self, kind: Kind, sentence: str, *, where: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(sentence)
        self.kind, self.where, self.code = kind, where, code

    @property
    def status(self) -> int:
        """The HTTP status."""
        return STATUS[self.kind]


def refusal(error: Exception) -> Refusal:
    """Return `error` as a refusal: the user's mistake, a full queue, something broken, or a bug."""
    from twofold.kernel.elsewhere import ElsewhereError
    from twofold.run.batcher import Busy, Closed

    if isinstance(error, Refusal):
        return error
    if isinstance(error, ElsewhereError):
        return Refusal(error.kind, str(error), code=None if error.kind == "invalid" else error.kind)
    if isinstance(error, Busy | Closed):
        return Refusal("busy", str(error), code="busy")
    if isinstance(error, UsageError):
        return Refusal("invalid", str(error))
    if isinstance(error, TwofoldError):
        return Refusal("bug", str(error))
    return Refusal("bug", f"This is a bug in twofold ({type(error).__name__}); the server's log says more.")
