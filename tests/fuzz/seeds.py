"""Seeds: the corpus that fuzzing begins with, drawn here; ``python -m tests.fuzz.seeds`` writes it again."""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageCms

from testing.fakes import encode

SEEDS = Path(__file__).parent / "seeds"
_CANVAS = Image.radial_gradient("L").resize((24, 16))
_COLOUR = Image.merge("RGB", [_CANVAS, _CANVAS.rotate(180), _CANVAS.transpose(Image.Transpose.FLIP_TOP_BOTTOM)])


def images() -> Iterator[tuple[str, bytes]]:
    """Yield small images by file name: each format, in the modes and with the extras that its decoder knows."""
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    clear = _COLOUR.copy()
    clear.putalpha(_CANVAS)
    second = _COLOUR.rotate(90)
    yield "plain.jpg", encode(_COLOUR, "JPEG")
    yield "grey.jpg", encode(_CANVAS, "JPEG", quality=30)
    yield "cmyk.jpg", encode(_COLOUR.convert("CMYK"), "JPEG")
    yield "progressive.jpg", encode(_COLOUR, "JPEG", progressive=True)
    yield "turned.jpg", encode(_COLOUR, "JPEG", exif=exif, comment=b"drawn")
    yield "profile.jpg", encode(_COLOUR, "JPEG", icc_profile=profile, restart_marker_blocks=1)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        yield f"{mode}.png", encode(clear.convert(mode), "PNG")
    deep = _CANVAS.convert("I").point(lambda value: value * 257).convert("I;16")
    yield "deep.png", encode(deep, "PNG", transparency=0)
    yield "palette.png", encode(_COLOUR.quantize(4), "PNG", transparency=0, dpi=(72, 72))
    yield "turned.png", encode(_COLOUR, "PNG", exif=exif, transparency=(0, 0, 0))
    yield "moving.png", encode(_COLOUR, "PNG", save_all=True, append_images=[second], default_image=False)
    yield "lossy.webp", encode(_COLOUR, "WEBP", exif=exif)
    yield "lossless.webp", encode(clear, "WEBP", lossless=True)
    yield "moving.webp", encode(_COLOUR, "WEBP", save_all=True, append_images=[second])
    yield "moving.gif", encode(_COLOUR.quantize(8), "GIF", save_all=True, append_images=[second.quantize(8)])
    yield "clear.gif", encode(clear, "GIF", interlace=1)
    for mode, options in (("1", {"compression": "group4"}), ("P", {}), ("RGB", {"compression": "jpeg"})):
        yield f"{mode}.tif", encode(_COLOUR.convert(mode), "TIFF", **options)
    yield "turned.tif", encode(_COLOUR.convert("CMYK"), "TIFF", compression="tiff_lzw", exif=exif.tobytes())
    yield "deep.tif", encode(deep, "TIFF", save_all=True, append_images=[deep], big_tiff=True)
    yield "two.mpo", encode(_COLOUR, "MPO", save_all=True, append_images=[second])
    yield "turned.avif", encode(clear, "AVIF", exif=exif.tobytes(), quality=30)
    yield "moving.avif", encode(_COLOUR, "AVIF", save_all=True, append_images=[second], quality=30)
    yield "turned.heic", encode(clear, "HEIC", exif=exif.tobytes(), quality=30)
    yield "grey.heic", encode(_CANVAS, "HEIC", quality=30)
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield f"{mode}.bmp", encode(clear.convert(mode).crop((0, 0, 9, 5)), "BMP")


def forms() -> Iterator[tuple[str, bytes]]:
    """Yield forms as the target ``multipart`` reads them."""
    part = b'Content-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    field = b'Content-Disposition: form-data; name="note"\r\n\r\n'
    kind = b"multipart/form-data; boundary=x"
    form = b"--x\r\n" + part + b"\x89PNG\r\n--y\r\n" + b"\r\n--x--\r\n"
    yield "one", b"\xff" + kind + b"\n" + form
    yield "byte_by_byte", b"\x00" + kind + b"\n" + form
    yield "charset", b"\xff" + kind + b"; charset=utf-16\n" + form
    yield "quoted", b"\x10" + b'Multipart/Form-Data; boundary="x"\n' + form
    three = (part + b"a", field + b"b", part)
    yield "three", b"\x07" + kind + b"\n--x\r\n" + b"\r\n--x\r\n".join(three) + b"\r\n--x--"
    yield "odd_name", b"\xff" + kind + b"\n" + form.replace(b'name="image"', b"name*=utf-8''image; name=image")
    yield "no_end", b"\xff" + kind + b"\n" + form[:-6]
    yield "no_boundary", b"\xff" + b"multipart/form-data\n" + form
    yield "empty", b"\xff" + kind + b"\n"


def write() -> None:
    """Write the corpus."""
    for folder, drawn in (("decode", images()), ("multipart", forms())):
        for name, data in drawn:
            (SEEDS / folder / name).write_bytes(data)


if __name__ == "__main__":
    write()
