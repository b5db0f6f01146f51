"""The families of servers that can stand behind a name, a file each.

URL: where the family's own server is; KEY: the variable with its key, None when it needs none.
`headers(key)` shows the key; `request(kernel, chat)` gives the path below the url and the body, and raises
ElsewhereError for what the family cannot do; `events(lines)` turns the stream into pieces, and an `End`.
"""

from twofold.base.registry import Registry

BACKENDS = Registry(
    "twofold.kernel.backends", "family of servers", requires=("URL", "KEY", "headers", "request", "events")
)
