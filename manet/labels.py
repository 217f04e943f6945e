"""The field's eight expressions, and the order in which each data set numbers them.

This is the only place where a class order is written. "Expression" always means apparent expression.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Expression(StrEnum):
    """An apparent facial expression, by the field's name for it."""

    NEUTRAL = "neutral"
    HAPPINESS = "happiness"
    SADNESS = "sadness"
    SURPRISE = "surprise"
    FEAR = "fear"
    DISGUST = "disgust"
    ANGER = "anger"
    CONTEMPT = "contempt"


_SEVEN = (
    Expression.NEUTRAL,
    Expression.HAPPINESS,
    Expression.SADNESS,
    Expression.SURPRISE,
    Expression.FEAR,
    Expression.DISGUST,
    Expression.ANGER,
)

CLASS_ORDERS: Mapping[str, tuple[Expression, ...]] = MappingProxyType(
    {
        # The authors' folders 0..6, which their checkpoints follow for every seven-class set.
        "caer_s": _SEVEN,
        "affectnet7": _SEVEN,
        "affectnet8": (*_SEVEN, Expression.CONTEMPT),
        "raf_db": _SEVEN,
        "sfew": _SEVEN,
        "fer2013": _SEVEN,
        "fed_ro": _SEVEN,
        # The order of the vote columns in fer2013new.csv (Barsoum et al., ICMI 2016).
        "ferplus": (
            Expression.NEUTRAL,
            Expression.HAPPINESS,
            Expression.SURPRISE,
            Expression.SADNESS,
            Expression.ANGER,
            Expression.DISGUST,
            Expression.FEAR,
            Expression.CONTEMPT,
        ),
    }
)
"""Data set name to its classes, in the order of the network's outputs."""

_SPELLINGS = MappingProxyType(
    {
        "happy": Expression.HAPPINESS,
        "sad": Expression.SADNESS,
        "surprised": Expression.SURPRISE,
        "fearful": Expression.FEAR,
        "afraid": Expression.FEAR,
        "disgusted": Expression.DISGUST,
        "angry": Expression.ANGER,
        "contemptuous": Expression.CONTEMPT,
    }
)


def expression_named(text: str) -> Expression:
    """Return the expression that a word means: the field's name for it, or the adjective, in any case.

    Raises:
        ValueError: if it means none of the eight.
    """
    word = text.strip().lower()
    return _SPELLINGS.get(word) or Expression(word)
