"""The web app's files, and what a browser may do with them: show them, and ask this server, nothing else.

The files are built from `web/` (`make web`) and committed. The content security policy makes "nothing leaves the
machine" a fact that the browser enforces, also against a mistake in the app: no script, style, picture or
request from anywhere else, and no script or style within the page itself.

Format: Content Security Policy Level 3. Not covered: browsers that ignore it.
"""

import mimetypes
import os
from collections.abc import Mapping
from pathlib import Path

from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC = Path(__file__).parent / "static"

POLICY = "; ".join((
    "default-src 'self'",
    "img-src 'self' data: blob:",
    "object-src 'none'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
))  # fmt: skip

# A machine's own table of types may call a script plain text, and then no browser runs it.
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}


class Pages(StaticFiles):
    """Files with the policy. Those under assets/ have a hash in their name, so they may be kept for ever."""

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        kept = Path(full_path).parent.name == "assets"
        headers: Mapping[str, str] = {
            "content-security-policy": POLICY,
            "cross-origin-opener-policy": "same-origin",
            "cache-control": "public, max-age=31536000, immutable" if kept else "no-cache",
        }
        response.headers.update(headers)
        return response


def pages(folder: Path = STATIC) -> list[Mount]:
    """Return the route of the web app, or none where it was not built."""
    if not (folder / "index.html").is_file():
        return []
    for extension, kind in TYPES.items():
        mimetypes.add_type(kind, extension)
    return [Mount("/", Pages(directory=folder, html=True))]
