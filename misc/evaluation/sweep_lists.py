"""What the two evaluations share: the images of a sweep, and its counts from all processes."""

import logging

import numpy as np

from misc.evaluation.sweep import ImageCounts, Sweep
from misc.evaluation.tables import SweepResult
from misc.run.distributed import all_sum_counts

log = logging.getLogger(__name__)


class Sweeps:
    """Adds up the counts of each image for the lists it is on.

    evaluated   IDs of the evaluation list
    sweep_ids   IDs of sweep_list, empty if the threshold is chosen on the evaluation list itself
    """

    def __init__(self, evaluated: list[str], sweep_ids: list[str], n_labels: int) -> None:
        self._lists = [(frozenset(ids), Sweep(n_labels)) for ids in (evaluated, sweep_ids) if ids]
        both = len(set(evaluated) & set(sweep_ids))
        if both:
            log.warning(
                "%d of %d images of sweep_list are evaluated as well: its figure is too good", both, len(sweep_ids)
            )

    def add(self, image_id: str, counts: ImageCounts) -> None:
        for ids, sweep in self._lists:
            if image_id in ids:
                sweep.add(counts)

    def result(self) -> SweepResult:
        """The counts of all processes. Every process must call it, since it all-reduces."""
        for _, sweep in self._lists:
            sweep.pixels = all_sum_counts(sweep.pixels)
            sweep.images = int(all_sum_counts(np.array([sweep.images]))[0])
        return SweepResult(*(sweep for _, sweep in self._lists))
