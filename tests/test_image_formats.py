"""The formats that are read: what names them outside of Python agrees with their one table."""

import re
from pathlib import Path

from PIL import Image

from manet.vision.images import FORMAT_NAMES, FORMATS, ONE_OF_THE_FORMATS, SUFFIXES

ROOT = Path(__file__).parents[1]


def test_pillow_has_the_same_names_suffixes_and_media_types() -> None:
    Image.init()
    assert {suffix: Image.EXTENSION[suffix] for suffix in SUFFIXES} == {
        suffix: known.name.upper() for known in FORMATS for suffix in known.suffixes
    }
    assert [Image.MIME[name.upper()] for name in FORMAT_NAMES] == [known.media_type for known in FORMATS]


def test_the_page_and_the_documents_name_them_all() -> None:
    script = (ROOT / "service/web/image.js").read_text()
    [listed] = re.findall(r"READ_BY_SERVICE = (\[.*?\])", script)
    assert re.findall(r'"(.*?)"', listed) == [known.media_type for known in FORMATS]
    assert ONE_OF_THE_FORMATS.replace(" or ", " and ") in (ROOT / "service/web/words.js").read_text()
    assert ONE_OF_THE_FORMATS in (ROOT / "docs/stream.md").read_text()
