"""Draw: a picture from SVG that the model writes, checked and rendered on this machine.

The drawing is checked and written anew (_drawings.py), then rendered by `resvg-py` in a process of its own.
Both the SVG and the PNG lie in the process's folder. Not covered: photographs, painting from words.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twofold.base.errors import MissingExtraError
from twofold.base.files import atomic_write
from twofold.devices import _confined, _drawings, _forms
from twofold.kernel.device import Context, Device, DeviceError, Effect, Function, Returned

DESCRIPTION = "Draws a picture from SVG."
_WIDEST = 2_048  # pixels

_FUNCTION = Function(
    name="draw",
    description="Draws a picture: SVG with shapes, colours and text.",
    parameters=_forms.object_of(
        {
            "svg": _forms.text("from <svg viewBox=…> to </svg>", longest=_drawings.LONGEST),
            "width": {
                "type": "integer", "minimum": 16, "maximum": _WIDEST,
                "description": "in pixels; 1024 unless said",
            },
        },
        required=("svg",),
    ),
    effect=Effect.NONE,
    trusted=True,
)  # fmt: skip


class Draw:
    """The device. It holds nothing."""

    def functions(self) -> Sequence[Function]:
        """Return what it can do."""
        return (_FUNCTION,)

    def call(self, function: str, arguments: Mapping[str, Any], context: Context) -> Returned:
        """Return `{"files", "left_out"}`: the PNG first. Raises DeviceError for a drawing that is refused."""
        _forms.check(_FUNCTION, function, arguments)
        drawing = _drawings.check(arguments["svg"])
        width = arguments.get("width", 1024)
        height = round(width * drawing.height / drawing.width)
        if height > _WIDEST:
            width, height = max(1, round(width * _WIDEST / height)), _WIDEST
        try:
            picture = _confined.run(
                f"{_drawings.__name__}.png",
                drawing.svg.encode(),
                seconds=10,
                width=width,
                height=max(1, height),
            )
        except _confined.ConfinedError as error:
            raise DeviceError(f"The drawing cannot be rendered: {error}.") from None
        if not isinstance(picture, bytes):
            raise DeviceError("The drawing cannot be rendered: it needs too much memory.")
        files = _save(context.workspace, drawing.svg, picture)
        note = f"; left out: {', '.join(drawing.left_out)}" if drawing.left_out else ""
        return Returned(
            value={"files": list(files), "left_out": list(drawing.left_out)},
            text=files[0] + note,
            files=files,
        )

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""


def _save(folder: Path, svg: str, picture: bytes) -> tuple[str, str]:
    """Write a picture under the next name that is free; return the names of its PNG and SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while (folder / f"image-{number}.png").exists() or (folder / f"image-{number}.svg").exists():
        number += 1
    for ending, data in (("svg", svg.encode()), ("png", picture)):
        with atomic_write(folder / f"image-{number}.{ending}") as file:
            file.write(data)
    return f"image-{number}.png", f"image-{number}.svg"


def open(settings: Mapping[str, Any]) -> Device:
    """Return the device; it has no settings. Raises MissingExtraError without resvg-py."""
    _forms.settings("draw", settings)
    if importlib.util.find_spec("resvg_py") is None:
        raise MissingExtraError("Drawing", "os")
    return Draw()
