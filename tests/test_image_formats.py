"""The formats that are read: what names them outside of Python agrees with their one table."""

import re
from pathlib import Path

import pi_heif
from PIL import Image

from manet.batch.drawings import WRITTEN
from manet.vision.formats import FORMATS, ONE_OF_THE_FORMATS, SUFFIXES
from manet.vision.images import ImageLimits, read_image

ROOT = Path(__file__).parents[1]


def test_pillow_has_the_same_names_suffixes_and_media_types() -> None:
    Image.init()
    pi_heif.register_heif_opener()
    assert {suffix: Image.EXTENSION[suffix] for suffix in SUFFIXES} == {
        suffix: known.codec for known in FORMATS for suffix in known.suffixes
    } | {".mpo": "MPO"}  # which is opened as the JPEG that it begins with
    assert {known.name: Image.MIME[known.codec] for known in FORMATS} == {
        known.name: known.media_type for known in FORMATS
    } | {"HEIC": "image/heif"}  # of the container; that of HEVC in it is image/heic


def test_drawings_are_saved_in_the_formats_that_say_so(tmp_path: Path) -> None:
    for suffix in WRITTEN:
        Image.new("RGB", (16, 16)).save(tmp_path / f"drawn{suffix}")
        assert read_image((tmp_path / f"drawn{suffix}").read_bytes(), limits=ImageLimits()).shape == (16, 16, 3)
    assert set(SUFFIXES) - set(WRITTEN) == set(FORMATS[-1].suffixes)


def test_the_page_and_the_documents_name_them_all() -> None:
    script = (ROOT / "service/web/image.js").read_text()
    [listed] = re.findall(r"READ_BY_SERVICE = (\[.*?\])", script, re.DOTALL)
    assert re.findall(r'"(.*?)"', listed) == [known.media_type for known in FORMATS]
    assert ONE_OF_THE_FORMATS.replace(" or ", " and ") in (ROOT / "service/web/words.js").read_text()
    assert ONE_OF_THE_FORMATS in (ROOT / "docs/stream.md").read_text()
