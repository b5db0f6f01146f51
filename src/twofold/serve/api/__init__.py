"""The APIs, a file each: its `OPERATIONS`, and the `FAMILY` whose manners they have."""

from twofold.base.registry import Registry

APIS = Registry("twofold.serve.api", "API", requires=("FAMILY", "OPERATIONS"))
