"""What has come together goes out together: pieces of one kind as one, in order, with all their tokens."""

from twofold.serve.replies import joined
from twofold.tokens.speech import Call, Piece


def test_neighbours_of_one_kind_become_one_piece() -> None:
    call = Piece("call", notes=(6,), call=Call("add", "{}"))
    pieces = [
        Piece("thought", "a ", (1,)), Piece("thought", "thought", (2, 3)), Piece("text", "To", (4,)),
        Piece("text", "day", (5,)), call, call, Piece("text", "!", (7,)),
    ]  # fmt: skip
    assert joined(pieces) == [
        Piece("thought", "a thought", (1, 2, 3)), Piece("text", "Today", (4, 5)), call, call,
        Piece("text", "!", (7,)),
    ]  # fmt: skip
    assert joined([]) == []
