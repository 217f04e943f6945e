"""Form: the images in a multipart form (RFC 7578), taken out of its bytes as they arrive and held in memory only."""

import re

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import MalformedRequestError

MEDIA_TYPE = "multipart/form-data"
OTHER_PARTS = 7
"""Files beside the images, and texts, that are read before a form is refused."""

_LONGEST_TEXT = 1024 * 1024


class ImageForm:
    """Keeps the images and nothing else.

    What stands in the images' field is an image also where no file name says so, which some clients leave out.

    Args:
        content_type: of the request.
        field: the name of the form field that carries the images. Where several are expected, ``field[]`` and
            ``field[0]`` are the same field, which some clients make of it.
        most: images that are expected, at most; more are read only to count them, and not all of them.

    Attributes:
        others: files that came in other fields.

    Raises:
        MalformedRequestError: if it is no multipart form, has no usable boundary, or names an unusable charset.
    """

    def __init__(self, content_type: str, field: str, *, most: int) -> None:
        media_type, options = parse_options_header(content_type)
        if media_type != MEDIA_TYPE.encode():
            raise MalformedRequestError(f"the body is not {MEDIA_TYPE}")
        if not (boundary := options.get(b"boundary")):
            raise MalformedRequestError("the content type names no boundary between the parts of the form")
        charset = options.get(b"charset", b"utf-8").decode("latin-1")
        number = rb"(?:\[\d*\])?" if most > 1 else b""
        self._field = re.compile(re.escape(_encoded(field, charset)) + number)
        self.others = 0
        self._most_files = self._files_left = most + OTHER_PARTS
        self._texts_left = OTHER_PARTS
        self._text_left = _LONGEST_TEXT
        self._images: list[bytes] = []
        self._pieces: list[bytes] | None = None  # of the image that is arriving
        self._is_file = False
        self._name = self._value = self._disposition = b""
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_name,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise MalformedRequestError("the boundary between the parts of the form is too long") from error

    def write(self, chunk: bytes) -> None:
        """Take the next bytes of the body.

        Raises:
            MalformedRequestError: if they do not go on with the form, or it has too many parts or too long a text.
        """
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise MalformedRequestError("the body does not hold the multipart form that it should") from error

    def finish(self) -> list[bytes]:
        """Return the images, in their order.

        Raises:
            MalformedRequestError: if the form has not ended.
        """
        if not self._ended:
            raise MalformedRequestError("the multipart body is not terminated")
        return self._images

    def close(self) -> None:
        """Let go of the parser, which knows this form: in a cycle, images would outlive their request."""
        del self._parser

    # -- what the parser calls

    def _on_part_begin(self) -> None:
        self._disposition = b""

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name")
        if name is None:
            raise MalformedRequestError("a part of the form has no name")
        self._pieces = [] if self._field.fullmatch(name) else None
        self._is_file = self._pieces is not None or b"filename" in options
        if self._is_file:
            self._files_left -= 1
            self.others += self._pieces is None
        else:
            self._texts_left -= 1
            self._text_left = _LONGEST_TEXT
        if self._files_left < 0:
            raise MalformedRequestError(f"the form has too many files: at most {self._most_files} are read")
        if self._texts_left < 0:
            raise MalformedRequestError(f"the form has too many fields of text: at most {OTHER_PARTS} are read")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._pieces is not None:
            self._pieces.append(data[start:end])
        elif not self._is_file:
            self._text_left -= end - start
            if self._text_left < 0:
                raise MalformedRequestError(f"a text in the form has more than {_LONGEST_TEXT} bytes")

    def _on_part_end(self) -> None:
        if self._pieces is not None:
            self._images.append(b"".join(self._pieces))
            self._pieces = None

    def _on_end(self) -> None:
        self._ended = True


def _encoded(field: str, charset: str) -> bytes:
    """Return the name of a field as a form in that charset has it; one that Python does not know is taken for ASCII.

    Raises:
        MalformedRequestError: if nothing can be written in it.
    """
    try:
        return field.encode(charset)
    except LookupError:
        return field.encode()
    except ValueError:  # UnicodeError, and what the lookup has to say of a name with a null in it
        raise MalformedRequestError("the form is not in the charset that it names") from None
