"""The table of settings in docs/operations.md, written from service/settings.py.

python docs/settings_table.py

rewrites what stands between the two marks; a test holds that nothing is left to rewrite.
"""

import typing
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from service.settings import Settings

PAGE = Path(__file__).with_name("operations.md")
BEGIN, END = "<!-- settings: written by docs/settings_table.py -->", "<!-- end of settings -->"


def table() -> str:
    """Return the settings as a Markdown list, one a line, in the order of the class."""
    return "".join(map(_line, Settings.model_fields, Settings.model_fields.values()))


def written(page: str) -> str:
    """Return the page with the table as it should be.

    Raises:
        ValueError: if the page has not both marks, once.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise ValueError(f"expected {BEGIN} and {END}, once each")
    return f"{before}{BEGIN}\n\n{table()}\n{END}{after}"


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
