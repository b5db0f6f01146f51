"""Errors a user may see.

Every message is one clear sentence: what was wrong, where, and what to do about it.
The command line prints it without a stack trace and exits 1 (2 for misuse).
"""


class TwofoldError(Exception):
    """Something went wrong that the user can understand and act on; exit code 1."""

    exit_code = 1


class UsageError(TwofoldError):
    """The command or its options were wrong; exit code 2."""

    exit_code = 2


class BadFileError(TwofoldError):
    """A file holds something that twofold cannot read: foreign, truncated or damaged bytes."""


class MissingExtraError(TwofoldError):
    """A feature needs packages that the core install leaves out."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs the extra [{extra}]: run `pip install 'twofold[{extra}]'`.")
