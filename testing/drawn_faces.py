"""Drawn faces: heads modelled from a few solids, lit and painted, for images in which no person is shown.

    python testing/drawn_faces.py --out service/web/drawn-faces.jpg

The solids are signed distances (Hart, "Sphere Tracing", 1996): a ray walks as far as the nearest surface allows.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Floats = npt.NDArray[np.float64]
Colour = tuple[float, float, float]
Solids = tuple[Callable[[Floats], Floats], ...]
"""Each gives the distance of points, (..., 3), from its surface."""

_STEPS = 60
"""Steps of a ray; the solids are round and few, and it converges well before."""

_DEPTH = 3.5
"""How far a ray goes: from before the nose to behind the head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One drawn person and the face that is made; lengths in units of about half a head."""

    smile: float = 0.0
    """How far the corners of the mouth go up; negative is down."""
    jaw: float = 0.0
    """How far the mouth stands open, 0..1."""
    teeth: bool = False
    brow_lift: float = 0.0
    brow_tilt: float = 0.0
    """How far the brows' inner ends lie below their outer ends."""
    lids: float = 0.5
    """How far the eyes are open, 0..1."""
    turn: float = 0.0
    """Radians about the vertical axis."""
    skin: Colour = (0.80, 0.59, 0.47)
    hair: Colour = (0.16, 0.11, 0.08)
    shirt: Colour = (0.23, 0.33, 0.42)


def _ellipsoid(p: Floats, centre: Colour, radii: Colour) -> Floats:
    scaled = (p - centre) / radii
    length: Floats = np.linalg.norm(scaled, axis=-1)
    distance: Floats = length * (length - 1) / np.maximum(np.linalg.norm(scaled / radii, axis=-1), 1e-9)
    return distance


def _capsule(p: Floats, start: Colour, end: Colour, radius: float, taper: float = 0.0) -> Floats:
    a, b = np.array(start), np.array(end)
    along = np.clip((p - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
    distance: Floats = np.linalg.norm(p - a - along[..., None] * (b - a), axis=-1) - radius - taper * along
    return distance


def _join(a: Floats, b: Floats, softness: float) -> Floats:
    mix = np.clip(0.5 + 0.5 * (b - a) / softness, 0, 1)
    return b + (a - b) * mix - softness * mix * (1 - mix)


def _carve(a: Floats, b: Floats, softness: float) -> Floats:
    return -_join(-a, b, softness)


def _mirrored(p: Floats) -> Floats:
    return np.stack([np.abs(p[..., 0]), p[..., 1], p[..., 2]], axis=-1)


def _skin(p: Floats, look: Look) -> Floats:
    both = _mirrored(p)
    head = _join(
        _ellipsoid(p, (0, 0.28, -0.12), (0.74, 0.80, 0.86)), _ellipsoid(p, (0, -0.34, 0.06), (0.53, 0.62, 0.62)), 0.22
    )
    head = _join(head, _ellipsoid(both, (0.34, -0.12 + 0.05 * look.smile, 0.46), (0.24, 0.20, 0.20)), 0.18)  # cheeks
    head = _join(head, _capsule(both, (0.12, 0.27, 0.66), (0.40, 0.27, 0.55), 0.07), 0.14)  # brow ridge
    head = _carve(head, _ellipsoid(both, (0.27, 0.10, 0.80), (0.17, 0.11, 0.14)), 0.10)  # sockets
    head = _join(head, _ellipsoid(both, (0.265, 0.10, 0.53), (0.145, 0.145, 0.145)), 0.02)  # the balls and their lids
    head = _join(head, _capsule(p, (0, 0.20, 0.64), (0, -0.13, 0.82), 0.055, 0.045), 0.10)  # nose
    head = _join(head, _ellipsoid(both, (0.085, -0.16, 0.74), (0.065, 0.055, 0.075)), 0.05)  # wings of the nose
    head = _join(head, _ellipsoid(p, (0, -0.46, 0.56), (0.26, 0.17, 0.14)), 0.12)  # the lips' ground
    head = _join(head, _ellipsoid(p, (0, -0.80, 0.50), (0.18, 0.13, 0.14)), 0.16)  # chin
    head = _join(head, _ellipsoid(both, (0.75, 0.05, -0.12), (0.07, 0.18, 0.12)), 0.05)  # ears
    return _join(head, _capsule(p, (0, -0.7, -0.2), (0, -1.5, -0.3), 0.36), 0.12)  # neck


def _hair(p: Floats) -> Floats:
    cap = _ellipsoid(p, (0, 0.40, -0.20), (0.84, 0.84, 0.94))
    return _carve(cap, _ellipsoid(p, (0, -0.28, 0.72), (0.66, 0.98, 0.72)), 0.10)


def _shirt(p: Floats) -> Floats:
    both = _mirrored(p)
    return _join(
        _capsule(both, (0.25, -1.72, -0.3), (0.95, -1.95, -0.35), 0.36),
        _ellipsoid(p, (0, -2.2, -0.2), (1.0, 0.75, 0.5)),
        0.2,
    )


def _normals(p: Floats, distance: Callable[[Floats], Floats]) -> Floats:
    step = 2e-3
    slopes = [distance(p + step * axis) - distance(p - step * axis) for axis in np.eye(3)]
    normal = np.stack(slopes, axis=-1)
    unit: Floats = normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    return unit


def _soft(inside: Floats, width: float) -> Floats:
    """Return 1 well inside, 0 well outside an edge at 0."""
    return np.clip(0.5 - inside / width, 0, 1)


def _over(base: Floats, colour: Colour, cover: Floats) -> Floats:
    return base + (np.array(colour) - base) * cover[..., None]


def _paint(p: Floats, look: Look) -> Floats:
    """Return the colour of the skin at its points, with eyes, brows and mouth painted on."""
    x, y, front = np.abs(p[..., 0]), p[..., 1], (p[..., 2] > 0.2).astype(np.float64)
    colour = np.broadcast_to(np.array(look.skin), p.shape).copy()
    colour = _over(
        colour, (0.78, 0.36, 0.30), 0.28 * front * np.exp(-(((x - 0.36) / 0.17) ** 2 + ((y + 0.17) / 0.14) ** 2))
    )
    colour = _eyes(colour, x, y, front, look)
    inner, outer = 0.33 + look.brow_lift - look.brow_tilt, 0.33 + look.brow_lift + 0.6 * look.brow_tilt
    part = (x - 0.12) / 0.34
    middle = inner + (outer - inner) * part + 0.05 * np.sin(np.pi * np.clip(part, 0, 1))
    brow = _soft(np.maximum(np.abs(y - middle) - 0.042 * (1.15 - 0.6 * part), np.abs(part - 0.5) * 0.34 - 0.17), 0.03)
    colour = _over(colour, look.hair, 0.9 * brow * front)
    return _mouth(colour, x, y, front, look)


def _eyes(colour: Floats, x: Floats, y: Floats, front: Floats, look: Look) -> Floats:
    across = (x - 0.268) / 0.135
    arch = np.maximum(1 - across**2, 0)
    upper, lower = 0.085 + 0.12 * look.lids * arch, 0.085 - 0.06 * np.sqrt(arch) * min(1.0, look.lids + 0.4)
    open_ = _soft(np.maximum(np.maximum(y - upper, lower - y), np.abs(across) * 0.135 - 0.135), 0.012) * front
    far = np.hypot(x - 0.268, y - 0.10)
    ball = np.broadcast_to(np.array((0.93, 0.92, 0.90)), colour.shape)
    ball = _over(ball, (0.30, 0.22, 0.14), _soft(far - 0.062, 0.012))
    ball = _over(ball, (0.03, 0.03, 0.03), _soft(far - 0.032, 0.010))
    ball = _over(ball, (1.0, 1.0, 1.0), _soft(np.hypot(x - 0.250, y - 0.122) - 0.012, 0.010))
    lash = _soft(np.maximum(np.abs(y - upper) - 0.013, np.abs(across) * 0.135 - 0.14), 0.012) * front
    crease = _soft(np.maximum(np.abs(y - upper - 0.04) - 0.004, np.abs(across) * 0.135 - 0.13), 0.02) * front
    colour = colour + (ball - colour) * open_[..., None]
    return _over(_over(colour, (0.10, 0.07, 0.06), 0.9 * lash), (0.35, 0.22, 0.17), 0.5 * crease)


def _mouth(colour: Floats, x: Floats, y: Floats, front: Floats, look: Look) -> Floats:
    half = 0.215 + 0.07 * max(look.smile, 0) - 0.09 * look.jaw
    across = np.clip(x / half, 0, 1.5)
    line = -0.50 + 0.10 * look.smile * (across**2 - 0.35)
    arch = np.sqrt(np.maximum(1 - across**2, 0))
    top = line + 0.05 * look.jaw * arch
    bottom = line - (0.26 * look.jaw + 0.012) * arch
    bow = 0.050 * np.clip(1 - across**1.6, 0, 1) * (1 - 0.25 * np.exp(-((x / 0.04) ** 2)))
    lips = np.maximum(np.maximum(y - top - bow, bottom - 0.065 * np.clip(1 - across**2, 0, 1) - y), x - half)
    colour = _over(colour, (0.66, 0.28, 0.27), 0.8 * _soft(lips, 0.02) * front)
    gap = _soft(np.maximum(np.maximum(y - top, bottom - y), x - half), 0.012) * front
    inside = np.broadcast_to(np.array((0.14, 0.04, 0.05)), colour.shape)
    if look.teeth:
        row = _soft(np.maximum(top - 0.55 * (top - bottom) - y, np.abs(x) - 0.9 * half), 0.015)
        inside = _over(inside, (0.95, 0.94, 0.90), row)
    colour = colour + (inside - colour) * gap[..., None]
    fold = np.abs(np.hypot(x - 0.05, (y + 0.42) * 0.9) - 0.30 - 0.05 * max(look.smile, 0)) - 0.006
    fold = _soft(np.maximum(np.maximum(fold, y + 0.22), -0.50 - y), 0.04) * front
    return _over(colour, (0.45, 0.25, 0.20), fold * 0.45 * max(look.smile, 0.15))


def _turned(p: Floats, angle: float) -> Floats:
    c, s = np.cos(angle), np.sin(angle)
    turned: Floats = p @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return turned


def draw(look: Look, side: int) -> Image.Image:
    """Return the head and shoulders of a look on nothing, in a square RGBA image of so many pixels a side."""
    at = (np.arange(2 * side) + 0.5) / side - 1
    x, y = np.meshgrid(at * 1.55, -at * 1.55 - 0.18)
    eye = np.array([0.0, -0.05, 6.5])
    way = np.stack([x, y, np.zeros_like(x)], axis=-1) - eye
    way = _turned(way / np.linalg.norm(way, axis=-1, keepdims=True), look.turn)
    solids = (lambda q: _skin(q, look), _hair, _shirt)
    p = _walked(_turned(eye, look.turn) + 4.8 * way, way, solids)
    hit = np.min([solid(p) for solid in solids], axis=0) < 0.02
    met = p[hit]
    nearest = np.argmin([solid(met) for solid in solids], axis=0)
    plain = np.array([look.skin, look.hair, look.shirt])[nearest]
    colour = np.where((nearest == 0)[..., None], _paint(met, look), plain)
    pixels = np.zeros((*hit.shape, 4), dtype=np.uint8)
    pixels[hit, :3] = np.clip(colour * _light(met, solids, look.turn), 0, 1) * 255
    pixels[hit, 3] = 255
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS)


def _walked(p: Floats, way: Floats, solids: Solids) -> Floats:
    """Return where rays that start at `p` end: on a solid, or so far on that they met none."""
    p, going, walked = p.copy(), np.ones(p.shape[:2], dtype=bool), np.zeros(p.shape[:2])
    for _ in range(_STEPS):
        step = np.min([solid(p[going]) for solid in solids], axis=0)
        walked[going] += 0.8 * step
        p[going] += 0.8 * step[..., None] * way[going]
        going[going] = (step > 1e-3) & (walked[going] < _DEPTH)
    return p


def _light(p: Floats, solids: Solids, turn: float) -> Floats:
    """Return how bright the points are, in each colour: a warm lamp, a cool window and what reaches the corners."""
    normal = _normals(p, lambda q: np.min([solid(q) for solid in solids], axis=0))
    lamp, window = (_turned(np.array(way) / np.linalg.norm(way), turn) for way in ((-0.5, 0.65, 0.9), (0.9, 0.2, 0.5)))
    near = [np.min([solid(p + far * normal) for solid in solids], axis=0) / far for far in (0.06, 0.16, 0.3)]
    open_ = np.clip(np.mean(near, axis=0), 0.25, 1)[..., None]
    warm = np.clip(normal @ lamp * 0.8 + 0.2, 0, 1)[..., None] * np.array((0.80, 0.77, 0.72))
    cool = np.clip(normal @ window, 0, 1)[..., None] * np.array((0.16, 0.19, 0.24))
    light: Floats = (warm + cool + np.array((0.28, 0.28, 0.30))) * (0.35 + 0.65 * open_)
    return light


LOOKS = MappingProxyType(
    {
        "neutral": Look(skin=(0.56, 0.38, 0.28), hair=(0.07, 0.06, 0.06), shirt=(0.62, 0.50, 0.30), turn=0.14),
        "surprise": Look(
            jaw=0.9, lids=0.95, brow_lift=0.12, hair=(0.36, 0.21, 0.11), shirt=(0.30, 0.42, 0.34), turn=-0.12
        ),
        "happiness": Look(
            smile=1.0, jaw=0.35, teeth=True, lids=0.42, brow_lift=0.01, hair=(0.16, 0.11, 0.08), turn=0.08
        ),
        "sadness": Look(
            smile=-1.2,
            lids=0.30,
            brow_lift=0.02,
            brow_tilt=-0.12,
            skin=(0.88, 0.68, 0.57),
            hair=(0.58, 0.56, 0.53),
            shirt=(0.45, 0.28, 0.30),
            turn=-0.06,
        ),
    }
)
"""By the expression that they are meant to show."""

_WALL = (206, 205, 197)


def group(width: int = 1200, height: int = 560) -> Image.Image:
    """Return all looks together before a wall, side by side."""
    far = np.linspace(-1, 1, width)[None] ** 2 + np.linspace(-0.6, 1, height)[:, None] ** 2
    wall = np.array(_WALL) * (1.05 - 0.12 * far[..., None])
    image = Image.fromarray(np.clip(wall, 0, 255).astype(np.uint8))
    places = ((0.39, 0.03, 0.98), (0.86, 0.04, 0.97), (0.14, 0.13, 0.88), (0.63, 0.12, 0.89))
    for look, (x, y, size) in zip(LOOKS.values(), places, strict=True):
        side = round(size * height)
        drawn = draw(look, side)
        image.paste(drawn, (round(x * width) - side // 2, round(y * height)), drawn)
    return image.filter(ImageFilter.GaussianBlur(0.6))


def main() -> None:
    """Write the group as a JPEG."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the JPEG to write")
    group().save(parser.parse_args().out, quality=82, optimize=True)


if __name__ == "__main__":
    main()
