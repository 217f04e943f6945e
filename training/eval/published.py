"""Published runs: the accuracies of the authors' own training runs, epoch by epoch."""

import csv
from dataclasses import dataclass
from importlib.resources import files
from statistics import mean


@dataclass(frozen=True, slots=True)
class PublishedRun:
    """The authors' evaluation accuracies of one run, in percent; epochs count from 0.

    Attributes:
        dataset: name of the data set.
        accuracies: of each epoch, on the split that the authors evaluated on.
    """

    dataset: str
    accuracies: tuple[float, ...]

    @property
    def best(self) -> float:
        """The highest accuracy, which is the headline figure of the paper."""
        return max(self.accuracies)

    @property
    def best_epoch(self) -> int:
        """The epoch of the highest accuracy."""
        return self.accuracies.index(self.best)

    @property
    def last(self) -> float:
        """The last epoch's accuracy."""
        return self.accuracies[-1]

    @property
    def mean_of_last_ten(self) -> float:
        """The mean accuracy of the last ten epochs."""
        return mean(self.accuracies[-10:])

    def at(self, epoch: int) -> float | None:
        """Return the accuracy of an epoch, or None after the end of their run."""
        return self.accuracies[epoch] if epoch < len(self.accuracies) else None


def published_run(dataset: str) -> PublishedRun | None:
    """Return the authors' run on a data set, or None where they published none."""
    log = files("training").joinpath("published_runs", f"{dataset}.csv")
    if not log.is_file():
        return None
    rows = csv.DictReader(log.read_text().splitlines())
    return PublishedRun(dataset, tuple(float(row["test_accuracy"]) for row in rows))
