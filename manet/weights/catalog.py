"""Catalog: the known weights, with the figures that were measured or published for them."""

from collections.abc import Mapping
from types import MappingProxyType

from manet.labels import CLASS_ORDERS
from manet.vision.faces import FaceCrop, Landmarks, Point
from manet.vision.preprocess import Preprocessing
from manet.weights.entry import Int8, Measurement, Weights

INTENDED_USE = (
    "Reading the apparent expression of a face in a photograph, for research, statistics over many images, and "
    "tools whose users chose to use them."
)

LIMITS = (
    "It says which expression a face shows as an onlooker would name it, not what the person feels.",
    "Not for decisions about a person. The EU AI Act (Regulation 2024/1689) bans inferring emotions at work and in "
    "schools (article 5(1)(f)) and requires that people exposed to such a system are informed (article 50(3)).",
    "Accuracy was not measured by age, sex, skin colour or culture, and is known to differ between them in this field.",
    "Trained on still images of mostly frontal faces; turned, covered, blurred or very small faces do worse.",
)

_FERPLUS = Weights(
    id="ferplus",
    dataset="ferplus",
    classes=CLASS_ORDERS["ferplus"],
    wiring="bidirectional",
    fusion_weight=0.6,
    temperature=0.6150,
    preprocessing=Preprocessing(input_size=80, colour="grey", detail_size=48),
    # Where the shipped detector finds the points in 1,487 of the training images: bench/results/face_template.json.
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
    sha256="24723688e1fc8313b68acde0120a4a0ddc5f6645b9d948a1f6976864eb089460",
    int8=Int8(
        file="ferplus.int8.safetensors",
        sha256="ba1881142324c9ee678742de0536a548d195a3893a585e17f40c309f249f12c6",
        measured=Measurement(
            dataset="ferplus",
            split="valid",
            protocol="majority of votes after dropping single votes; calibrated on 300 training images",
            n=3199,
            accuracy=87.84,
            macro_recall=69.11,
            source="training/reports/ferplus/valid_int8.json",
        ),
    ),
    measured=(
        Measurement(
            dataset="ferplus",
            split="valid",
            protocol="majority of votes after dropping single votes; epoch and temperature chosen on this split",
            n=3199,
            accuracy=87.78,
            last=87.78,
            macro_recall=69.09,
            per_class=(89.09, 94.80, 91.33, 75.50, 85.02, 37.50, 56.45, 23.08),
            source="training/reports/ferplus/valid.json",
        ),
    ),
    published=(),
    licence="MIT, as are the FER+ labels; for the FER2013 images no grant by their owners was found.",
    provenance="Trained by this project on the FER+ training images, with the recipe ferplus, from an identity stage "
    "on the same images (ferplus_identity).",
    intended_use=INTENDED_USE,
    limits=(*LIMITS, "Trained on grey images of 48 x 48 px: colour and fine detail are thrown away."),
)


def _by_the_authors(
    dataset: str, *, start: str, split: str, n: int, epochs: int, best: tuple[float, int], last: float, mean: float
) -> Weights:
    """Return the entry of one of the authors' five checkpoints.

    Args:
        dataset: its data set, which is also its id.
        start: what it was trained from.
        split: the split that the authors evaluated on after every epoch.
        n: images in that split.
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
        intended_use=INTENDED_USE,
        limits=(
            *LIMITS,
            "No one measured this file here: its figures are the authors' own.",
            "Unless the import says otherwise its wiring is inferred: the checkpoints were published in 2021, with the "
            "first release of the code.",
        ),
    )


_FACE_IDENTITY = "from a network trained to tell the 12,666 identities of MS-Celeb-1M apart"

CATALOG: Mapping[str, Weights] = MappingProxyType(
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
"""All of them by id, the shipped ones first."""
