"""Weights: everything there is to know about one set of trained parameters, and the registry of the known sets.

Whoever uses weights takes every number that belongs to them from here: classes, preprocessing, wiring, fusion,
temperature. Parameters themselves lie in files: the shipped ones in this package, the others in a folder of the
user's, the store.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from platformdirs import user_data_path

from manet.errors import CheckpointError, UnknownWeightsError, WeightsNotInstalledError
from manet.faces import FaceCrop, Landmarks, Point
from manet.files import recorded_sha256, sha256_of, verify_sha256
from manet.header import read_header
from manet.labels import CLASS_ORDERS, Expression
from manet.preprocess import Preprocessing
from manet.wiring import Wiring

STORE_VARIABLE = "MANET_WEIGHTS_DIR"
"""Environment variable that names the store's folder."""

INT8_SUFFIX = ".int8.safetensors"
"""What an int8 calibration's file name has in the place of the weights' own suffix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """How well some weights did on one split of a data set; all rates in percent.

    Attributes:
        dataset: the data set, by its name in ``CLASS_ORDERS``.
        split: the part of it that was classified, by its owners' name.
        protocol: which pictures count, how they are labelled and which epoch is meant.
        n: how many pictures were classified.
        accuracy: share of them answered with their label; for a published training run, of its best epoch.
        last: accuracy of the run's last epoch, where known.
        mean_of_last_ten: mean accuracy of the run's last ten epochs, where known.
        macro_recall: mean over the classes of each one's recall, where known.
        per_class: each class's recall, in the order of the weights' classes, where known.
        source: the file or the log that the figures were read from.
    """

    dataset: str
    split: str
    protocol: str
    n: int
    accuracy: float
    last: float | None = None
    mean_of_last_ten: float | None = None
    macro_recall: float | None = None
    per_class: tuple[float, ...] | None = None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8:
    """What lets some weights run in int8 arithmetic, and what that costs them.

    Attributes:
        file: name of the calibration's file, beside the weights' own.
        sha256: of that file.
        measured: how well the weights do in int8 arithmetic, on the pictures that ``Weights.measured`` begins with.
    """

    file: str
    sha256: str
    measured: Measurement


MOST_LOST = 0.5
"""Points of accuracy that int8 arithmetic may cost; weights that lose more run in it only where it is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """One set of trained parameters, and all that belongs to it.

    Attributes:
        id: the name it is asked for by.
        dataset: what it was trained on, by its name in ``CLASS_ORDERS``.
        classes: what the outputs mean, in their order.
        wiring: the wiring it was trained with.
        fusion_weight: the local branch's share in the fused logits, 0..1 (the paper's lambda).
        temperature: what the fused logits are divided by before softmax, above 0; 1 where it was not calibrated.
        preprocessing: how a face crop becomes network input.
        crop: how a detected face is cut so that it looks like the training pictures; None where nobody measured it.
        shipped: whether the file is part of this package; else it is looked for in the user's store.
        file: the file's name there, or the absolute path of a file that the registry does not know; None where
            there is no file to be had.
        card: the model card's file in this package; None where nobody wrote one.
        sha256: of the file of weights. None for files that each user imports (each import writes its own down).
        int8: the calibration that ships with them; None where none does.
        measured: what this project measured with that very file, in float32.
        published: what others report.
        licence: terms of the parameters, as far as they are known.
        provenance: who trained it, on what, from which start.
        intended_use: what it is good for.
        limits: what it is not good for.
    """

    id: str
    dataset: str
    classes: tuple[Expression, ...]
    wiring: Wiring
    fusion_weight: float
    temperature: float
    preprocessing: Preprocessing
    crop: FaceCrop | None
    shipped: bool
    file: str | None
    card: str | None
    sha256: str | None
    int8: Int8 | None = None
    measured: tuple[Measurement, ...]
    published: tuple[Measurement, ...]
    licence: str
    provenance: str
    intended_use: str
    limits: tuple[str, ...]

    @property
    def int8_is_close(self) -> bool:
        """Whether int8 arithmetic was measured to cost at most ``MOST_LOST`` points of accuracy."""
        if self.int8 is None or not self.measured:
            return False
        return self.measured[0].accuracy - self.int8.measured.accuracy <= MOST_LOST


def names() -> tuple[str, ...]:
    """Return the ids of all known weights, the shipped ones first."""
    return tuple(_REGISTRY)


def get(id: str) -> Weights:
    """Return the weights of that id.

    Raises:
        UnknownWeightsError: if there are none; the message names the known ones.
    """
    try:
        return _REGISTRY[id]
    except KeyError:
        raise UnknownWeightsError(f"unknown weights {id!r}; known are {', '.join(names())}") from None


def described_by(path: Path) -> Weights:
    """Return the weights that a file holds, by what the file says of itself; the registry need not know them.

    That is how a user's own training run is evaluated and served.

    Raises:
        CheckpointError: if the file is none of ours, or does not say how it is to be used.
        FileNotFoundError: if there is no such file.
    """
    header = read_header(path)
    if header is None or header.use is None:
        raise CheckpointError(f"{path}: expected a header that says how the weights are to be used, found none")
    use = header.use
    return Weights(
        id=path.stem,
        dataset=use.dataset,
        classes=header.classes,
        wiring=header.wiring,
        fusion_weight=use.fusion_weight,
        temperature=use.temperature,
        preprocessing=use.preprocessing,
        crop=use.crop,
        shipped=False,
        file=str(path.absolute()),
        card=None,
        sha256=sha256_of(path),
        measured=(),
        published=(),
        licence="Not stated in the file.",
        provenance=header.provenance,
        intended_use=_INTENDED_USE,
        limits=_LIMITS,
    )


def read_card(weights: Weights) -> str | None:
    """Return the model card as Markdown, or None where nobody wrote one."""
    if weights.card is None:
        return None
    return files("manet").joinpath("weights", weights.card).read_text(encoding="utf-8")


def resolve(name: str, store: Path | None = None) -> Weights:
    """Return the weights of an id, as this machine has them, or those of a ``.safetensors`` file.

    Raises:
        UnknownWeightsError: if it is neither an id nor a file's path.
        WeightsNotInstalledError: if the file of known weights is not on this machine.
        CheckpointError: if the file is not what it should be.
    """
    path = Path(name)
    if path.suffix == ".safetensors" and path.is_file():
        return described_by(path)
    return as_installed(get(name), store)


def default_store() -> Path:
    """Return the user's folder of weights: ``MANET_WEIGHTS_DIR`` where set, else the platform's place for such data."""
    chosen = os.environ.get(STORE_VARIABLE)
    return Path(chosen) if chosen else user_data_path("manet", appauthor=False) / "weights"


def locate(weights: Weights, store: Path | None = None) -> Path:
    """Return the path of the weights' file.

    Whatever is returned can be checked: a shipped file has its SHA-256 in the registry, an imported one beside it.

    Args:
        weights: an entry of the registry.
        store: the user's folder of weights; None means ``default_store()``. Shipped weights are not looked for there.

    Raises:
        WeightsNotInstalledError: if the file is not there, or there is nothing to check it against.
    """
    if weights.file is None:
        raise WeightsNotInstalledError(f"weights {weights.id!r} have no file")
    if weights.shipped:
        return _locate_shipped(weights, weights.file)
    if Path(weights.file).is_absolute() and weights.sha256 is not None:
        return Path(weights.file)
    path = (default_store() if store is None else store) / weights.file
    hint = f"import the authors' checkpoint with: manet weights import FILE --dataset {weights.id}"
    if not path.is_file():
        raise WeightsNotInstalledError(f"weights {weights.id!r} are not installed: expected {path}; {hint}")
    if recorded_sha256(path) is None:
        raise WeightsNotInstalledError(f"weights {weights.id!r} have no checksum beside {path}; {hint}")
    return path


def locate_calibration(weights: Weights, store: Path | None = None) -> Path | None:
    """Return the path of the weights' int8 calibration, or None where there is none.

    The shipped one is checked against the registry. Beside other weights a file counts that is called like theirs with
    ``INT8_SUFFIX``; ``manet-train calibrate`` makes it.

    Raises:
        ChecksumError: if the shipped one is not what the registry says.
        WeightsNotInstalledError: if the weights themselves are not there.
    """
    path = locate(weights, store)
    if weights.int8 is not None:
        shipped = path.with_name(weights.int8.file)
        verify_sha256(shipped, weights.int8.sha256)
        return shipped
    own = path.with_suffix(INT8_SUFFIX)
    return own if own.is_file() else None


def as_installed(weights: Weights, store: Path | None = None) -> Weights:
    """Return the weights as the copy on this machine has them.

    What a user imports may come from either release of the authors' code, so its wiring and its checksum are facts
    of the copy, not of the registry. Shipped weights are returned as they are.

    Raises:
        WeightsNotInstalledError: if the file is not there, or there is nothing to check it against.
        CheckpointError: if the file holds other classes, or its header or its checksum cannot be read.
    """
    path = locate(weights, store)
    if weights.shipped:
        return weights
    header = read_header(path)
    if header is None:
        raise CheckpointError(f"{path}: expected a header that names classes and wiring, found none")
    if header.classes != weights.classes:
        raise CheckpointError(
            f"{path}: expected the classes {', '.join(weights.classes)}, found {', '.join(header.classes)}"
        )
    return replace(weights, wiring=header.wiring, sha256=recorded_sha256(path))


def _locate_shipped(weights: Weights, file: str) -> Path:
    path = Path(str(files("manet"))) / "weights" / file
    if weights.sha256 is None:
        raise WeightsNotInstalledError(f"weights {weights.id!r} have no SHA-256 in the registry to check {path}")
    if not path.is_file():
        raise WeightsNotInstalledError(f"weights {weights.id!r} are missing from this installation: expected {path}")
    return path


_INTENDED_USE = (
    "Reading the apparent expression of a face in a photograph, for research, statistics over many pictures, and "
    "tools whose users asked for it."
)

_LIMITS = (
    "It says which expression a face shows as an onlooker would name it, not what the person feels.",
    "Not for decisions about a person. The EU AI Act (Regulation 2024/1689) bans inferring emotions at work and in "
    "schools (article 5(1)(f)) and asks that people exposed to such a system be told (article 50(3)).",
    "Accuracy was not measured by age, sex, skin colour or culture, and is known to differ between them in this field.",
    "Trained on still pictures of mostly frontal faces; turned, covered, blurred or very small faces do worse.",
)

_FERPLUS = Weights(
    id="ferplus",
    dataset="ferplus",
    classes=CLASS_ORDERS["ferplus"],
    wiring="bidirectional",
    fusion_weight=0.6,
    temperature=0.8137,
    preprocessing=Preprocessing(input_size=80, colour="grey", detail_size=48),
    # Where the shipped detector finds the points in 1,487 of the training pictures: bench/results/face_template.json.
    crop=FaceCrop(
        Landmarks(
            left_eye=Point(0.3239, 0.3791),
            right_eye=Point(0.6758, 0.3774),
            nose=Point(0.4976, 0.5909),
            left_mouth=Point(0.3596, 0.7579),
            right_mouth=Point(0.6448, 0.7570),
        )
    ),
    shipped=True,
    file="ferplus.safetensors",
    card="MODEL_CARD.md",
    sha256="8222634feffca5318b4833e399b1669a5dcbd50c87de0db1bc673e984e4d31eb",
    int8=Int8(
        file="ferplus.int8.safetensors",
        sha256="2c8af829859f24d3899526407d7289fe369bd32f51ee438e976a7da88ed53ff9",
        measured=Measurement(
            dataset="ferplus",
            split="valid",
            protocol="majority of votes after dropping single votes; calibrated on 300 training pictures",
            n=3199,
            accuracy=86.06,
            macro_recall=69.54,
            source="training/reports/ferplus/valid_int8.json",
        ),
    ),
    measured=(
        Measurement(
            dataset="ferplus",
            split="valid",
            protocol="majority of votes after dropping single votes; epoch and temperature chosen on this split",
            n=3199,
            accuracy=86.18,
            last=85.93,
            macro_recall=69.69,
            per_class=(87.14, 93.99, 89.88, 73.22, 80.49, 37.50, 64.52, 30.77),
            source="training/reports/ferplus/valid.json",
        ),
    ),
    published=(),
    licence="MIT, as are the FER+ labels; for the FER2013 pictures no grant by their owners was found.",
    provenance="Trained by this project from scratch on the FER+ training pictures, with the recipes ferplus and then "
    "ferplus_refine.",
    intended_use=_INTENDED_USE,
    limits=(*_LIMITS, "Trained on grey pictures of 48 x 48 px: colour and fine detail are thrown away."),
)


def _by_the_authors(
    dataset: str, *, start: str, split: str, n: int, epochs: int, best: tuple[float, int], last: float, mean: float
) -> Weights:
    """Return the entry of one of the authors' five checkpoints.

    Args:
        dataset: its data set, which is also its id.
        start: what it was trained from.
        split: the split that the authors evaluated on after every epoch.
        n: pictures in that split.
        epochs: length of the run.
        best: accuracy of the best epoch on that split, and that epoch, counted from 0.
        last: accuracy of the last epoch.
        mean: mean accuracy of the last ten.
    """
    accuracy, epoch = best
    figures = Measurement(
        dataset=dataset,
        split=split,
        protocol="whole face crop squashed to 224 x 224; the best epoch was chosen on this very split",
        n=n,
        accuracy=accuracy,
        last=last,
        mean_of_last_ten=mean,
        source=f"the authors' published training log, epoch {epoch} of 0..{epochs - 1}",
    )
    return Weights(
        id=dataset,
        dataset=dataset,
        classes=CLASS_ORDERS[dataset],
        # Inferred, as the limits below say.
        wiring="unidirectional",
        fusion_weight=0.6,
        temperature=1.0,
        preprocessing=Preprocessing(input_size=224, colour="rgb"),
        crop=None,
        shipped=False,
        file=f"{dataset}.safetensors",
        card=None,
        sha256=None,
        measured=(),
        published=(figures,),
        licence="The authors state no licence with their checkpoints; the data set is for non-commercial research.",
        provenance=f"Trained by the authors of MA-Net (Zhao, Liu, Wang, IEEE TIP 2021), {start}.",
        intended_use=_INTENDED_USE,
        limits=(
            *_LIMITS,
            "Nobody measured this file here: its figures are the authors' own.",
            "Unless the import says otherwise its wiring is inferred: the checkpoints were published in 2021, with the "
            "first release of the code.",
        ),
    )


_FACE_IDENTITY = "from a network trained to tell the 12,666 identities of MS-Celeb-1M apart"

_REGISTRY: Mapping[str, Weights] = MappingProxyType(
    {
        weights.id: weights
        for weights in (
            _FERPLUS,
            _by_the_authors(
                "caer_s",
                start="from scratch (inferred)",
                split="test",
                n=20_987,
                epochs=400,
                best=(88.417, 398),
                last=88.34,
                mean=88.30,
            ),
            _by_the_authors(
                "affectnet7",
                start=_FACE_IDENTITY,
                split="validation",
                n=3_499,
                epochs=20,
                best=(64.533, 6),
                last=63.93,
                mean=63.74,
            ),
            _by_the_authors(
                "affectnet8",
                start=_FACE_IDENTITY,
                split="validation",
                n=3_999,
                epochs=20,
                best=(60.290, 8),
                last=59.54,
                mean=59.66,
            ),
            _by_the_authors(
                "raf_db",
                start=_FACE_IDENTITY,
                split="test",
                n=3_068,
                epochs=100,
                best=(88.396, 29),
                last=88.01,
                mean=87.97,
            ),
            _by_the_authors(
                "sfew",
                start=f"{_FACE_IDENTITY}, then on FER2013",
                split="validation",
                n=436,
                epochs=100,
                best=(59.404, 40),
                last=57.57,
                mean=58.19,
            ),
        )
    }
)
