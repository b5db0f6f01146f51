"""Text to token ids and back: train, encode, decode, and chat templates. See docs/tokens.md."""

from twofold.tokens.tokenizer import Tokenizer
from twofold.tokens.vocabulary import Vocabulary

__all__ = ["Tokenizer", "Vocabulary"]
