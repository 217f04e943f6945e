"""RetinaFace: the face detector that ships with the package.

Source: Deng, Guo, Zhou, Yu, Kotsia, Zafeiriou, "RetinaFace: Single-stage Dense Face Localisation in the Wild", 2019
(arXiv 1905.00641): prior boxes on three feature maps, and per prior a score, a box and five landmarks. The network is
the MobileNet-0.25 variant, trained on WIDER FACE; where the file comes from stands beside it, in
``manet/weights/assets/retinaface.LICENSE``.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from manet.vision.face_network import MEAN, FaceNetwork, Floats
from manet.vision.faces import Box, DetectedFace, Landmarks, Point
from manet.vision.preprocess import Pixels

_PRIORS = ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
"""Stride of each feature map and the sides of its two square priors, in pixels of the canvas."""

_CENTRE_VARIANCE, _SIZE_VARIANCE = 0.1, 0.2

_STRIDE = 32
"""The largest stride: a canvas whose sides are multiples of it has no half cells on any map."""

_STEP = 128
"""Sides of canvases are this many pixels apart, so that sizes are few: OpenVINO prepares itself for each that it meets,
which takes as long as a search, and keeps 2 MB a thread for it (seen with 2026.4). 672, the longer side of a large
image's canvas, is among them, and 800, that of its parts."""

_LEAST = 160
"""The least side of a canvas; 672 less some steps."""

LARGEST_CANVAS = 800 * 800
"""Pixels of a canvas, at most, of a detector with the usual sides."""

_GROUND = 16
"""Pixels of ground on each side of the image, so that a face that fills it is seen whole. 80 at the first side gave the
same answers in half as much time again (bench/results/canvas.json)."""

_PART_GAIN = 9 / 8
"""A part of an image is scaled to more than a whole one, to find smaller faces in it."""

_MIN_SIDE = 192
"""An image whose longest side is shorter is enlarged to this; of 48-pixel faces the network sees few (see bench)."""

_SAME = Point(1, 1)

_MAX_OVERLAP = 0.5
"""Two boxes that share more than this of the smaller one are taken for one face. RetinaFace's own rule, intersection
over union above 0.4, leaves the little face that it likes to see around the mouth of a big one."""

_CONFIDENT = 0.99
"""Score above which a face is surely upright. The surest of most photographs has 0.995 and more; faces that are
upside down and were taken for upright ones had 0.89 to 0.98."""

SmallFaces = Literal["off", "auto", "on"]
"""When small faces are looked for, down to 1/70 of an image's longest side."""


class _Canvas(NamedTuple):
    """An image as the network sees it: scaled and laid on a padded ground."""

    pixels: Pixels  # (height, width, 3)
    scale: Floats  # (2,) canvas pixels per image pixel, in x and y


class RetinaFaceDetector:
    """Finds faces with RetinaFace; safe to call from several threads.

    Args:
        network: runs on each canvas.
        sides: longest sides, in pixels, at which an image is looked at, the next only when nothing was found at the
            one before. The first decides how small a face may be: at 640, about 1/40 of the image. A later, smaller
            one sees the face that is too large for the first.
        min_score: least score of a face, 0..1.
        small_faces: when an image is also searched in parts for small faces: never (``off``), where no face was found
            otherwise (``auto``), or always (``on``).

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        network: FaceNetwork,
        *,
        sides: Sequence[int] = (640, 320),
        min_score: float = 0.8,
        small_faces: SmallFaces = "auto",
    ) -> None:
        if not sides or min(sides) < _STRIDE:
            raise ValueError(f"sides must be one or more of at least {_STRIDE} pixels, not {list(sides)}")
        self._network = network
        self._sides = tuple(sides)
        self._min_score = min_score
        self._small_faces = small_faces

    def warmup(self) -> None:
        """Search a blank image on every thread: the first one of a thread takes the most to set up.

        Another shape takes 14 to 32 ms more the first time, and up to 22 MB (``bench/results/first_batches.json``).
        """
        blank = _canvas(np.zeros((3, 4, 3), np.uint8), self._sides[0]).pixels
        look = partial(self._network.candidates, least=self._min_score)
        with ThreadPoolExecutor(self._network.threads) as pool:
            # As many at once as there are threads; each has buffers of its own.
            list(pool.map(look, [blank] * self._network.threads))

    def detect(self, image: Pixels, *, small_faces: bool = False) -> list[DetectedFace]:
        """Return the faces of an image, the largest box first; an empty list when there is none.

        Where no face is surely upright, the image is also looked at upside down, which takes as long again; where none
        is found then, it is searched in four parts, upright, which takes four times as long.

        Args:
            image: RGB, uint8 (height, width, 3), upright, at least 1 x 1.
            small_faces: whether to search the parts also where faces were found, and upside down, too.

        Raises:
            ValueError: if the image has another type or shape.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:  # noqa: PLR2004
            raise ValueError(f"an image is uint8 (height, width, 3), not {image.dtype} {image.shape}")
        small_faces = small_faces or self._small_faces == "on"
        faces = self._detect_one_way(image, turned=False, small_faces=small_faces)
        surest = max((face.confidence for face in faces if _is_upright(face)), default=0)
        if surest >= _CONFIDENT:
            return faces
        # The network sees few faces that are upside down, and their points are far off.
        turned = self._detect_one_way(image, turned=True, small_faces=small_faces)
        if any(face.confidence > surest for face in turned if not _is_upright(face)):
            return turned
        return self._detect_small(image, turned=False) if self._small_faces == "auto" and not faces else faces

    def _detect_one_way(self, image: Pixels, *, turned: bool, small_faces: bool) -> list[DetectedFace]:
        faces = self._detect_on_canvases(image, turned=turned)
        return _merged([*faces, *self._detect_small(image, turned=turned)]) if small_faces else faces

    def _detect_small(self, image: Pixels, *, turned: bool) -> list[DetectedFace]:
        """Return the faces in four parts of the image, which show each twice as large, on canvases of the usual size.

        None where the whole image was looked at as it is.
        """
        side = self._sides[0]
        if max(image.shape) <= side:
            return []
        found = []
        for rows in _halves(image.shape[0]):
            for columns in _halves(image.shape[1]):
                part = image[rows, columns]
                most = min(round(side * _PART_GAIN), max(*part.shape, _MIN_SIDE))
                faces = self._detect_on_canvas(part, most, turned=turned)
                corner = Point(columns.start, rows.start)
                found += [face.placed(scale=_SAME, offset=corner) for face in faces]
        return _merged(found)

    def _detect_on_canvases(self, image: Pixels, *, turned: bool) -> list[DetectedFace]:
        longest = max(image.shape)
        for side in dict.fromkeys(min(side, max(longest, _MIN_SIDE)) for side in self._sides):
            if faces := self._detect_on_canvas(image, side, turned=turned):
                return faces
        return []

    def _detect_on_canvas(self, image: Pixels, side: int, *, turned: bool = False) -> list[DetectedFace]:
        canvas = _canvas(image, side, turned=turned)
        places, scores, offsets, points = self._network.candidates(canvas.pixels, self._min_score)
        boxes, landmarks = _decode(offsets, points, _priors(*canvas.pixels.shape[:2])[places])
        height, width = image.shape[:2]
        boxes = ((boxes - _GROUND) / canvas.scale).clip(0, (width, height))
        landmarks = (landmarks - _GROUND) / canvas.scale
        if turned:
            boxes, landmarks = (width, height) - boxes[:, ::-1], (width, height) - landmarks
        extents = boxes[:, 1] - boxes[:, 0]
        # A box wholly on the ground around the image was clipped to nothing.
        kept = [face for face in _distinct(boxes) if extents[face].min() > 0]
        kept.sort(key=lambda face: -extents[face].prod())
        return [_face(boxes[face], float(scores[face]), landmarks[face]) for face in kept]


def _halves(size: int) -> tuple[slice, slice]:
    """Return both halves of a side, each longer by a sixteenth of it, so that a face on the seam is whole in one."""
    half = size // 2 + size // 16 + 1
    return slice(0, min(half, size)), slice(max(0, size - half), size)


def _merged(faces: Sequence[DetectedFace]) -> list[DetectedFace]:
    """Return the faces of several looks, each once, the largest box first."""
    surest = sorted(faces, key=lambda face: -face.confidence)
    boxes = [((box.x, box.y), (box.x + box.width, box.y + box.height)) for box in (face.box for face in surest)]
    distinct = _distinct(np.array(boxes, np.float32).reshape(-1, 2, 2))
    return sorted((surest[face] for face in distinct), key=lambda face: -face.box.width * face.box.height)


def _is_upright(face: DetectedFace) -> bool:
    """Return whether a face's mouth is below its eyes."""
    points = face.landmarks
    return points.left_mouth.y + points.right_mouth.y > points.left_eye.y + points.right_eye.y


def _canvas(image: Pixels, side: int, *, turned: bool = False) -> _Canvas:
    height, width = image.shape[:2]
    scale = side / max(height, width)
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    # Means of whole pixels first: all of it in one step costs twice the time, for the same faces.
    resized = Image.fromarray(image).reduce(max(1, int(1 / scale)))
    if resized.size != (across, down):
        resized = resized.resize((across, down), Image.Resampling.BILINEAR)
    high, wide = _whole_cells(down + 2 * _GROUND), _whole_cells(across + 2 * _GROUND)
    # Row by row: NumPy is slow where the innermost axis is three long.
    canvas = np.broadcast_to(np.tile(np.array(MEAN, np.uint8), wide), (high, 3 * wide)).copy().reshape(high, wide, 3)
    rows = np.asarray(resized)
    canvas[_GROUND : _GROUND + down, _GROUND : _GROUND + across] = rows[::-1, ::-1] if turned else rows
    return _Canvas(canvas, np.array([across / width, down / height], np.float32))


def _whole_cells(pixels: int) -> int:
    """Return the least side of a canvas that holds so many pixels."""
    return _LEAST + max(0, -(-(pixels - _LEAST) // _STEP)) * _STEP


@lru_cache(maxsize=32)
def _priors(height: int, width: int) -> Floats:
    """Return the prior boxes of a canvas in the order of the network's outputs: (P, 3) centre x, centre y, side."""
    maps = []
    for stride, sides in _PRIORS:
        y, x, side = np.meshgrid(np.arange(height // stride), np.arange(width // stride), sides, indexing="ij")
        maps.append(np.stack([(x + 0.5) * stride, (y + 0.5) * stride, side], axis=-1).reshape(-1, 3))
    return np.concatenate(maps).astype(np.float32)


def _decode(offsets: Floats, points: Floats, priors: Floats) -> tuple[Floats, Floats]:
    """Return the boxes, (K, 2, 2) upper left and lower right corners, and the landmarks, (K, 5, 2).

    Args:
        offsets: the network's regression of centre and extent, (K, 4).
        points: its regression of five points, (K, 10).
        priors: the priors that they belong to, (K, 3).
    """
    centres, sides = priors[:, :2], priors[:, 2:]
    middle = centres + _CENTRE_VARIANCE * offsets[:, :2] * sides
    half = sides * np.exp(_SIZE_VARIANCE * offsets[:, 2:]) / 2
    landmarks = centres[:, None] + _CENTRE_VARIANCE * points.reshape(-1, 5, 2) * sides[:, None]
    return np.stack([middle - half, middle + half], axis=1), landmarks


def _distinct(boxes: Floats) -> list[int]:
    """Return the boxes, (K, 2, 2) best first, that no better one covers (greedy non-maximum suppression)."""
    upper_left = np.maximum(boxes[:, None, 0], boxes[None, :, 0])
    lower_right = np.minimum(boxes[:, None, 1], boxes[None, :, 1])
    shared = (lower_right - upper_left).clip(0).prod(axis=-1)  # (K, K)
    area = (boxes[:, 1] - boxes[:, 0]).prod(axis=-1)
    same = shared > _MAX_OVERLAP * np.minimum(area[:, None], area[None, :])
    kept: list[int] = []
    open_to_choice = np.ones(len(boxes), dtype=bool)
    while open_to_choice.any():
        best = int(open_to_choice.argmax())
        kept.append(best)
        open_to_choice &= ~same[best]
        open_to_choice[best] = False
    return kept


def _face(box: Floats, score: float, landmarks: Floats) -> DetectedFace:
    (left, top), (right, bottom) = box.tolist()
    return DetectedFace(
        box=Box(left, top, right - left, bottom - top),
        confidence=min(score, 1.0),
        landmarks=Landmarks(*(Point(x, y) for x, y in landmarks.tolist())),
    )
