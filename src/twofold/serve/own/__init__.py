"""What only twofold's own web app asks for, a file each: `routes(state)` gives its routes."""

from twofold.base.registry import Registry

OWN = Registry("twofold.serve.own", "part of the web app", requires=("routes",))
