"""Summary: the figures of a run, from its samples; and the samples, small enough to be kept."""

from collections import Counter
from itertools import groupby
from typing import Any

import numpy as np

from bench.load import Samples

SETTLING = 0.1
"""The share of a closed loop's time that is not counted: the clients start all at once."""

MOST_SAMPLES = 6000
"""More are kept as a histogram."""

_QUANTILES = (50, 90, 99)


def summary(samples: Samples) -> dict[str, Any]:
    """Return what a run came to.

    ``offered`` is in requests a second of the timetable; ``answered`` is the rate of those with status 200, while the
    timetable lasted, its beginning left out; ``latency_ms`` is of those with status 200, from intended sending to whole
    answer, ``refused_ms`` of all others that were answered; ``late_ms`` is how far the generator itself was behind.
    """
    intended, sent, answered, status = map(np.array, (samples.intended, samples.sent, samples.answered, samples.status))
    good, lost = status == 200, status == 0
    begin = SETTLING * samples.seconds
    return {
        "seconds": samples.seconds,
        "requests": len(intended),
        "statuses": {str(code): count for code, count in sorted(Counter(samples.status).items())},
        "offered": round(len(intended) / samples.seconds, 2),
        "answered": round(_rate(answered[good], begin, samples.seconds), 2),
        "latency_ms": quantiles((answered - intended)[good]),
        "refused_ms": quantiles((answered - intended)[~good & ~lost]),
        "late_ms": quantiles((sent - intended)[~lost]),
        "generator_cpu_seconds": round(samples.cpu_seconds, 3),
    }


def _rate(times: "np.ndarray[Any, Any]", begin: float, end: float) -> float:
    """Return events a second between two times: the slope of the line through how many there were by when.

    Answers come in batches, and the plain count would depend on whether the last batch came just in time.
    """
    moments = np.linspace(begin, end, 201)
    counts = np.searchsorted(np.sort(times), moments)
    return float(np.polyfit(moments, counts, 1)[0])


def quantiles(seconds: "np.ndarray[Any, Any]") -> dict[str, float] | None:
    """Return quantiles and the largest in milliseconds, None of nothing."""
    if not len(seconds):
        return None
    cuts = np.percentile(1e3 * seconds, _QUANTILES)
    named = {f"p{q}": round(float(cut), 2) for q, cut in zip(_QUANTILES, cuts, strict=True)}
    return {**named, "max": round(1e3 * float(seconds.max()), 2)}


def ratio(ours: float, theirs: float) -> float | None:
    """Return ours over theirs, None where theirs is nothing."""
    return round(ours / theirs, 3) if theirs else None


def raw(samples: Samples, most: int = MOST_SAMPLES) -> dict[str, Any]:
    """Return the samples in whole tenths of a millisecond: the gaps between intended sendings, lateness, latency.

    Statuses are runs of ``[status, how often]``. More than ``most`` become a histogram of latencies with status 200.
    """
    intended, sent, answered = (
        np.rint(1e4 * np.array(times)).astype(int) for times in (samples.intended, samples.sent, samples.answered)
    )
    statuses = [[status, len(list(run))] for status, run in groupby(samples.status)]
    if len(intended) > most:
        good = np.array(samples.status) == 200
        edges = np.geomspace(1, 1e6, 121)
        counts, _ = np.histogram((answered - intended)[good], np.concatenate([[0], edges]))
        return {"unit": "0.1 ms", "histogram_edges": [0, *np.round(edges, 1).tolist()], "counts": counts.tolist()}
    return {
        "unit": "0.1 ms",
        "gaps": np.diff(intended, prepend=0).tolist(),
        "late": (sent - intended).tolist(),
        "latency": (answered - intended).tolist(),
        "statuses": statuses,
    }
