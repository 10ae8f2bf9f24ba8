"""The page: shots in, one HTML document out, with its style and its script inside.

Nothing of a shot becomes markup. The data are JSON in which no character can end the script, the
script of the page writes them as text, and the page's content security policy runs no other script.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import attrs

from seedance_async.media.gallery.shots import Address, Shot

#: The page's script, in pieces of one subject each; they share one scope.
SCRIPTS = (
    "dom",
    "shots",
    "marks",
    "filter_and_sort",
    "preview",
    "cards",
    "viewer",
    "compare",
    "export",
    "toolbar",
    "keys",
    "live",
)
STYLES = ("base", "cards", "dialogs")
_PLACE = re.compile(r"\{\{(\w+)\}\}")
#: What could end the script element, or begin a comment in it, as JSON's escapes.
_ESCAPES = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})


@attrs.frozen
class Gallery:
    """What a page says besides its shots.

    Attributes:
        title: the page's.
        version: with `events`, up to which change the shots are known.
        events: the URL of the changes, as server-sent events; None for a page that stays as it is.
    """

    title: str
    version: int = 0
    events: str | None = None


def page(gallery: Gallery, shots: Iterable[Shot], address: Address) -> str:
    """The whole document."""
    data = attrs.asdict(gallery) | {"shots": [shot.as_data(address) for shot in shots]}
    style, script = _together("css", STYLES), _script()
    return _filled(
        {
            "title": html.escape(gallery.title),
            "policy": html.escape(_policy(style, script)),
            "style": style,
            "script": script,
            "data": script_json(data),
        }
    )


def script_json(data: object) -> str:
    """Data as JSON that may stand in a script element, whatever text is in it."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPES)


def _filled(values: Mapping[str, Any]) -> str:
    """The template with its places filled, once: what is filled in is not looked at again."""
    return _PLACE.sub(lambda place: values[place[1]], _read("gallery.html"))


def _policy(style: str, script: str) -> str:
    """Files from beside the page, its own script and style, and nothing else."""
    return "; ".join(
        [
            "default-src 'none'",
            "img-src 'self' file: data:",
            "media-src 'self' file:",
            "connect-src 'self'",
            f"style-src {_hash(style)}",
            f"script-src {_hash(script)}",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _script() -> str:
    return f'(() => {{\n"use strict";\n{_together("js", SCRIPTS)}\n}})();'


@cache
def _together(kind: str, names: tuple[str, ...]) -> str:
    return "\n".join(_read(f"{kind}/{name}.{kind}") for name in names)


@cache
def _read(name: str) -> str:
    return files("seedance_async.media.gallery").joinpath(name).read_text("utf-8")
