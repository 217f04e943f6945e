"""The tables of settings in docs/operations.md, written from service/settings.py and service/ray_app.py.

python docs/settings_table.py

rewrites what stands between the two marks; a test holds that nothing is left to rewrite. It needs the extra ray.
"""

import typing
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from service.ray_app import ClusterSettings
from service.settings import Settings

PAGE = Path(__file__).with_name("operations.md")
BEGIN, END = "<!-- settings: written by docs/settings_table.py -->", "<!-- end of settings -->"
ON_A_CLUSTER = "And on [a Ray cluster](#on-a-ray-cluster):"


def table(fields: Mapping[str, FieldInfo]) -> str:
    """Return settings as a Markdown list, one a line, in the order of their class."""
    return "".join(map(_line, fields, fields.values()))


def tables() -> str:
    """Return the list of the service's settings, and below it that of the settings that only a Ray cluster has."""
    own = {name: field for name, field in ClusterSettings.model_fields.items() if name not in Settings.model_fields}
    return f"{table(Settings.model_fields)}\n{ON_A_CLUSTER}\n\n{table(own)}"


def written(page: str) -> str:
    """Return the page with the tables as they should be.

    Raises:
        ValueError: if the page has not both marks, once.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise ValueError(f"expected {BEGIN} and {END}, once each")
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def _line(name: str, field: FieldInfo) -> str:
    description = " ".join((field.description or "").split())
    return f"- `MANET_{name.upper()}: {_type(field.annotation)} = {_default(field)}`: {description}\n"


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    return repr(field.default) if isinstance(field.default, str) else str(field.default)


def _type(annotation: Any) -> str:
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " | ".join(map(repr, parts))
    if origin in {typing.Union, UnionType}:
        return " | ".join(_type(part) for part in parts)
    if origin is typing.Annotated:
        return _type(parts[0])
    if origin is not None:
        return f"{origin.__name__}[{', '.join('...' if part is Ellipsis else _type(part) for part in parts)}]"
    return "None" if annotation is NoneType else str(annotation.__name__)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
