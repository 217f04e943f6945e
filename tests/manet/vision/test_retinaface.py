"""The shipped detector, on a portrait that may be shown, on images without a face, and on strange ones."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from manet.backends.openvino.face_network import OpenVinoFaceNetwork
from manet.errors import ChecksumError
from manet.vision.face_network import NETWORK_FILE, Candidates
from manet.vision.faces import DetectedFace
from manet.vision.images import ImageLimits, read_image
from manet.vision.preprocess import Pixels
from manet.vision.retinaface import LARGEST_CANVAS, RetinaFaceDetector, _canvas

PHOTOS = Path(__file__).parents[4] / "shared/data/photos"


@pytest.fixture(scope="module")
def detector() -> RetinaFaceDetector:
    return RetinaFaceDetector(OpenVinoFaceNetwork())


@pytest.fixture(scope="module")
def portrait() -> Pixels:
    image: Pixels = skimage.data.astronaut()
    return image


def _overlap(face: DetectedFace, left: float, top: float, right: float, bottom: float) -> float:
    """Return intersection over union of a face's box with a rectangle."""
    box = face.box
    across = min(box.x + box.width, right) - max(box.x, left)
    down = min(box.y + box.height, bottom) - max(box.y, top)
    shared = max(0.0, across) * max(0.0, down)
    return shared / (box.width * box.height + (right - left) * (bottom - top) - shared)


def test_a_portrait_has_one_face_where_it_is(detector: RetinaFaceDetector, portrait: Pixels) -> None:
    [face] = detector.detect(portrait)

    assert _overlap(face, 178, 57, 273, 177) > 0.9
    assert 0.9 < face.confidence <= 1
    points = face.landmarks
    assert points.left_eye.x < points.nose.x < points.right_eye.x
    assert points.left_mouth.x < points.right_mouth.x
    assert max(points.left_eye.y, points.right_eye.y) < points.nose.y < min(points.left_mouth.y, points.right_mouth.y)


@pytest.mark.parametrize("scale", [0.15, 0.5, 2, 5])
def test_it_is_found_at_any_size(detector: RetinaFaceDetector, portrait: Pixels, scale: float) -> None:
    image = Image.fromarray(portrait)
    scaled = np.asarray(image.resize((round(512 * scale), round(512 * scale)), Image.Resampling.LANCZOS))

    [face] = detector.detect(scaled)

    assert _overlap(face, *(edge * scale for edge in (178, 57, 273, 177))) > 0.75


@pytest.mark.parametrize("scale", [0.25, 0.5, 1, 2])
@pytest.mark.parametrize("part", [(0, 0, 512, 512), (100, 0, 350, 250), (150, 30, 300, 200)])
def test_upside_down_it_is_found_as_upright_in_the_pixels_of_the_image(
    detector: RetinaFaceDetector, portrait: Pixels, part: tuple[int, int, int, int], scale: float
) -> None:
    cut = Image.fromarray(portrait).crop(part)
    image = np.asarray(cut.resize((round(cut.width * scale), round(cut.height * scale))))
    height, width = image.shape[:2]
    [upright] = detector.detect(image)

    [face] = detector.detect(np.ascontiguousarray(image[::-1, ::-1]))

    box, tolerance = upright.box, 0.05 * upright.box.width
    left, top = width - box.x - box.width, height - box.y - box.height
    assert _overlap(face, left, top, left + box.width, top + box.height) > 0.8
    for name in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth"):
        point, wanted = getattr(face.landmarks, name), getattr(upright.landmarks, name)
        assert (point.x, point.y) == pytest.approx((width - wanted.x, height - wanted.y), abs=tolerance)


def test_beside_an_upright_face_no_one_is_looked_for_upside_down(
    detector: RetinaFaceDetector, portrait: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[bool] = []
    search = RetinaFaceDetector._detect_on_canvases

    def noted(self: RetinaFaceDetector, image: Pixels, *, turned: bool) -> list[DetectedFace]:
        looked.append(turned)
        return search(self, image, turned=turned)

    monkeypatch.setattr(RetinaFaceDetector, "_detect_on_canvases", noted)
    detector.detect(np.concatenate([portrait, portrait[::-1, ::-1]], axis=1))
    assert looked == [False]
    detector.detect(np.zeros((200, 300, 3), np.uint8))
    assert looked == [False, False, True]


def test_a_side_face_lying_on_its_side_stays_as_it_was(detector: RetinaFaceDetector, portrait: Pixels) -> None:
    for turns in (1, 3):
        [face] = detector.detect(np.ascontiguousarray(np.rot90(portrait, turns)))
        assert face.confidence > 0.9


@pytest.mark.parametrize("side", [48, 64, 224, 1200])
def test_a_crop_that_the_face_fills_is_seen_whole(detector: RetinaFaceDetector, portrait: Pixels, side: int) -> None:
    crop = Image.fromarray(portrait[50:185, 160:295]).resize((side, side), Image.Resampling.BICUBIC)

    [face] = detector.detect(np.asarray(crop))

    assert min(face.box.width, face.box.height) > side / 2


def test_several_faces_come_the_largest_first(detector: RetinaFaceDetector, portrait: Pixels) -> None:
    crop = Image.fromarray(portrait[20:220, 130:330])
    canvas = Image.new("RGB", (900, 400), "white")
    for x, side in ((20, 100), (200, 380), (620, 200)):
        canvas.paste(crop.resize((side, side)), (x, 10))

    faces = detector.detect(np.asarray(canvas))

    assert len(faces) == 3
    widths = [face.box.width for face in faces]
    assert widths == sorted(widths, reverse=True)
    assert 200 < faces[0].box.x < 580


def test_boxes_stay_inside_the_image(detector: RetinaFaceDetector, portrait: Pixels) -> None:
    [face] = detector.detect(np.ascontiguousarray(portrait[:140, 190:300]))

    assert face.box.x >= 0
    assert face.box.y >= 0
    assert face.box.x + face.box.width <= 110 + 1e-3
    assert face.box.y + face.box.height <= 140 + 1e-3


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 20_000, 3), (20_000, 1, 3), (2, 3000, 3), (400, 600, 3), (31, 33, 3)])
def test_where_there_is_no_face_none_is_found(detector: RetinaFaceDetector, shape: tuple[int, int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    assert detector.detect(noise) == []
    assert detector.detect(np.full(shape, 128, np.uint8)) == []


def test_images_without_people_have_no_face(detector: RetinaFaceDetector) -> None:
    coffee, coins = skimage.data.coffee(), skimage.data.coins()

    assert detector.detect(coffee) == []
    assert detector.detect(np.stack([coins] * 3, axis=-1)) == []


def test_threads_share_a_detector(detector: RetinaFaceDetector, portrait: Pixels) -> None:
    images = [np.ascontiguousarray(portrait[:, shift:]) for shift in range(0, 80, 10)]
    alone = [detector.detect(image) for image in images]

    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(detector.detect, images))

    assert together == alone
    assert all(len(faces) == 1 for faces in alone)


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_what_is_no_image_is_an_error(detector: RetinaFaceDetector, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="an image is uint8"):
        detector.detect(image)


def test_another_network_file_is_refused(tmp_path: Path) -> None:
    changed = bytearray(NETWORK_FILE.read_bytes())
    changed[1000] ^= 1
    (tmp_path / "network.onnx").write_bytes(changed)

    with pytest.raises(ChecksumError, match=r"network\.onnx"):
        OpenVinoFaceNetwork(path=tmp_path / "network.onnx")


def test_settings_out_of_range_are_an_error() -> None:
    with pytest.raises(ValueError, match="threads must be at least 1, not 0"):
        OpenVinoFaceNetwork(threads=0)
    network = OpenVinoFaceNetwork(threads=1)
    for sides in ((), (16,)):
        with pytest.raises(ValueError, match="sides must be"):
            RetinaFaceDetector(network, sides=sides)


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the four photographs are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("neutral.jpeg", 1, 1), ("happy-baby.jpeg", 1, 1), ("angry.jpg", 1, 1), ("group.jpeg", 4, 5)],
)
def test_photographs_have_the_faces_that_people_see(
    detector: RetinaFaceDetector, name: str, least: int, most: int
) -> None:
    faces = detector.detect(read_image((PHOTOS / name).read_bytes(), limits=ImageLimits()))

    assert least <= len(faces) <= most
    if name == "group.jpeg":
        # The four whole faces, by the middle of each; the fifth is cut by the upper edge.
        for x, y in ((231, 328), (1019, 378), (685, 146), (372, 90)):
            assert any(
                face.box.x < x < face.box.x + face.box.width and face.box.y < y < face.box.y + face.box.height
                for face in faces
            )
        assert all(face.box.y < 1 for face in faces[4:])


def test_canvases_come_in_few_sizes(portrait: Pixels) -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for height, width in rng.integers(20, 3000, (300, 2)).tolist():
        longest = max(height, width)
        for side in {min(640, max(192, longest)), min(320, max(192, longest))}:
            canvas = _canvas(np.zeros((height, width, 3), np.uint8), side)
            seen.add(canvas.pixels.shape[:2])

    assert {side for shape in seen for side in shape} == {160, 288, 416, 544, 672}
    assert _canvas(portrait, 640).pixels.shape == (672, 672, 3)
    assert _canvas(np.ascontiguousarray(portrait[:288]), 640).pixels.shape == (416, 672, 3)


class Noted:
    """Sees nothing, and writes down what it was shown."""

    threads = 1

    def __init__(self) -> None:
        self.pixels: list[int] = []

    def candidates(self, canvas: Pixels, least: float) -> Candidates:
        self.pixels.append(canvas.shape[0] * canvas.shape[1])
        scores, offsets, points = (np.zeros((0, *more), np.float32) for more in ((), (4,), (10,)))
        return Candidates(np.zeros(0, np.int64), scores, offsets, points)


def test_no_canvas_is_larger_than_the_largest() -> None:
    network = Noted()
    detector = RetinaFaceDetector(network, small_faces="on")
    rng = np.random.default_rng(0)
    for height, width in [(3000, 3000), (641, 641), (720, 720), *rng.integers(20, 2000, (40, 2)).tolist()]:
        assert detector.detect(np.zeros((height, width, 3), np.uint8)) == []

    assert max(network.pixels) == LARGEST_CANVAS


def _crowd(portrait: Pixels, *, columns: int, rows: int, cell: int, side: int) -> Pixels:
    """Return an image of so many small portraits."""
    face = Image.fromarray(portrait).crop((120, 20, 330, 230)).resize((side, side), Image.Resampling.LANCZOS)
    image = Image.new("RGB", (columns * cell, rows * cell), (120, 130, 120))
    margin = (cell - side) // 2
    for row in range(rows):
        for column in range(columns):
            image.paste(face, (column * cell + margin, row * cell + margin))
    return np.asarray(image)


@pytest.mark.parametrize(
    ("columns", "rows", "cell", "side", "least"), [(8, 6, 200, 80, 48), (18, 10, 100, 72, 160), (4, 3, 300, 280, 12)]
)
def test_a_crowd_is_found_in_its_parts(
    detector: RetinaFaceDetector, portrait: Pixels, *, columns: int, rows: int, cell: int, side: int, least: int
) -> None:
    crowd = _crowd(portrait, columns=columns, rows=rows, cell=cell, side=side)

    found = detector.detect(crowd, small_faces=True)

    cells = {
        (int((face.box.x + face.box.width / 2) // cell), int((face.box.y + face.box.height / 2) // cell))
        for face in found
    }
    assert least <= len(found) == len(cells) <= columns * rows, "each face once"
    for face in found:
        assert 0.3 * side < face.box.width < 0.8 * side
        assert abs(face.landmarks.nose.x - (face.box.x + face.box.width / 2)) < 0.2 * side


def test_small_faces_are_looked_for_when_that_is_said(portrait: Pixels) -> None:
    small = _crowd(portrait, columns=8, rows=6, cell=200, side=80)
    mixed = small.copy()
    mixed[:512, :512] = portrait
    network = OpenVinoFaceNetwork(threads=1)
    off, auto, on = (RetinaFaceDetector(network, small_faces=when) for when in ("off", "auto", "on"))

    assert [len(detector.detect(small)) for detector in (off, auto, on)] == [0, 48, 48]
    assert [len(detector.detect(mixed)) for detector in (off, auto)] == [1, 1]
    assert len(on.detect(mixed)) == len(off.detect(mixed, small_faces=True)) > 30
    assert len(on.detect(small[::-1, ::-1].copy())) > 40, "and upside down"


def test_a_warm_up_meets_a_usual_photograph_on_every_thread() -> None:
    met: dict[int, list[tuple[int, ...]]] = {}

    class Counted(OpenVinoFaceNetwork):
        def candidates(self, canvas: Pixels, least: float) -> Candidates:
            both.wait(20)  # no thread takes both
            met.setdefault(threading.get_ident(), []).append(canvas.shape[:2])
            return super().candidates(canvas, least)

    both = threading.Barrier(2)
    RetinaFaceDetector(Counted(threads=2)).warmup()
    both = threading.Barrier(1)
    warm = list(met.values())
    RetinaFaceDetector(Counted(threads=1)).detect(np.zeros((3000, 4000, 3), np.uint8))

    assert warm == [warm[0]] * 2
    assert warm[0][0] == met[threading.get_ident()][0]


def test_the_runtime_sends_no_telemetry_and_keeps_no_files(tmp_path: Path) -> None:
    places = ("HOME", "XDG_CACHE_HOME", "TMPDIR")
    for place in places:
        (tmp_path / place).mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "CI"}  # it would be silent in that
    environment |= {place: str(tmp_path / place) for place in places}
    program = "from manet.backends.openvino.face_network import OpenVinoFaceNetwork; OpenVinoFaceNetwork()"

    subprocess.run([sys.executable, "-c", program], env=environment, check=True)

    assert [path for path in tmp_path.rglob("*") if path.name not in places] == []
