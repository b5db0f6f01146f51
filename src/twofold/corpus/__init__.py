"""From files people have to shards a training run can stream: read, split, tokenise, write.

`documents` reads text out of files and folders; `prepare` turns it into memory-mapped token shards with a
held-out part; `conversations` and `prepare_conversations` do the same for chats, with a mask that says which
tokens the model is to learn; `pairs` and `prepare_pairs` for preferences. See docs/corpus.md.

Not covered: quality filters and near-duplicate removal.
"""

from twofold.corpus.build import prepare
from twofold.corpus.conversations import Conversation, conversations, prepare_conversations
from twofold.corpus.documents import Document, Skipped, documents
from twofold.corpus.pairs import pairs, prepare_pairs
from twofold.corpus.shards import Corpus, open_corpus

__all__ = [
    "Conversation",
    "Corpus",
    "Document",
    "Skipped",
    "conversations",
    "documents",
    "open_corpus",
    "pairs",
    "prepare",
    "prepare_conversations",
    "prepare_pairs",
]
