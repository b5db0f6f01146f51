"""Time for accuracy: an answer may cost seconds or tokens, and gets better for it.

`think` takes a question and a budget and returns an answer with a line on how it was found. It draws many
answers side by side and lets them vote, or takes the best by a verifier or a scorer; it searches a tree
whose branches share what they begin with in run.c's cache; it lets a model that can think do so, for as
long as there is budget. policy.py says which of it when. Everything runs through the batch engine (run.c),
without torch.

`ask` knows the problems of twofold/environments that can be read from a text and checked without knowing
the answer, and turns such a text into a question with its verifier.
"""

from twofold.think.asking import ask
from twofold.think.budget import Budget, Meter
from twofold.think.policy import Found, Method, Question, Thinker, think

__all__ = ["Budget", "Found", "Meter", "Method", "Question", "Thinker", "ask", "think"]
