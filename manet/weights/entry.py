"""Weights: everything there is to know about one set of trained parameters.

Everything that uses weights takes every number that belongs to them from here: classes, preprocessing, wiring, fusion,
temperature. Parameters themselves lie in files; see ``manet.weights.registry``.
"""

from dataclasses import dataclass

from manet.labels import Expression
from manet.nn.wiring import Wiring
from manet.vision.faces import FaceCrop
from manet.vision.preprocess import Preprocessing


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """How well some weights did on one split of a data set; all rates in percent.

    Attributes:
        dataset: the data set, by its name in ``CLASS_ORDERS``.
        split: the part of it that was classified, by its owners' name.
        protocol: which images count, how they are labelled and which epoch is meant.
        n: how many images were classified.
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
        measured: how well the weights do in int8 arithmetic, on the images that ``Weights.measured`` begins with.
    """

    file: str
    sha256: str
    measured: Measurement


MOST_LOST = 0.5
"""Points of accuracy that int8 arithmetic may cost; weights that lose more run in it only where it is requested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """One set of trained parameters, and all that belongs to it.

    Attributes:
        id: the name it is requested by.
        dataset: what it was trained on, by its name in ``CLASS_ORDERS``.
        classes: what the outputs mean, in their order.
        wiring: the wiring it was trained with.
        fusion_weight: the local branch's share in the fused logits, 0..1 (the paper's lambda).
        temperature: what the fused logits are divided by before softmax, above 0; 1 where it was not calibrated.
        preprocessing: how a face crop becomes network input.
        crop: how a detected face is cut so that it looks like the training images; None where no one measured it.
        shipped: whether the file is part of this package; else it is searched for in the user's store.
        file: the file's name there, or the absolute path of a file that the registry does not know; None where
            there is no file to be had.
        card: the model card's file in this package; None where no one wrote one.
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
