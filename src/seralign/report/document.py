"""What all pages share: templates, and a Content-Security-Policy that allows only a page's own scripts and style.

A page is one HTML file that needs no network and no other file. Text from data and models is escaped by Jinja, or is
data that the scripts show as text.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from seralign.report.format import visible


def environment() -> Environment:
    """The templates of pages."""
    return Environment(
        loader=PackageLoader("seralign.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def source(templates: Environment, name: str) -> Markup:
    """A file of ours, as it is."""
    assert templates.loader is not None
    return Markup(templates.loader.get_source(templates, name)[0])


def embedded(value: Any) -> Markup:
    """JSON inside a script element: ASCII, and nothing that could end the element."""
    text = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def content_policy(style: str, scripts: Sequence[str]) -> str:
    """The Content-Security-Policy: nothing but these scripts and this style."""
    parts = {
        "default-src": "'none'",
        "script-src": " ".join(map(_hash, scripts)),
        "style-src": _hash(style),
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
    }
    return "; ".join(f"{name} {value}" for name, value in parts.items())


def _hash(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def _shown(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _finite(value: Any) -> Any:
    """Null in place of what JSON cannot say; a training that diverged has such figures."""
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
