"""One fresh process of the benchmark: times of a side of a row, its memory, differences of both, or the input files.

    python -m benchmarks.worker JOB.json RESULT.json

Started by `benchmarks.measure`; JOB names the row and what to do, RESULT is written at the end.
"""

import gc
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import inputs
from benchmarks.crf_rows import DenseCRFRow
from benchmarks.deeplab_rows import MakeDeepLabSeg, PredictDeepLab, TrainDeepLab
from benchmarks.inputs import TINY, Scale
from benchmarks.loaders import loader_speeds
from benchmarks.measure import tree_bytes
from benchmarks.rows import Call, Row, Walk
from benchmarks.step_rows import MakeBoundaryLabel, MakeCam, MakeSemSeg
from benchmarks.training_rows import BoundaryTraining, BoundaryTrainingAmp, BoundaryTrainingDetached, TrainCam
from misc.run.device import fault_of, keep_freed_memory

ROWS: dict[str, Callable[..., Row]] = {
    "walk": Walk,
    "crf": DenseCRFRow,
    "crf_2": partial(DenseCRFRow, n_labels=2, ratio=4.5),
    "crf_3": partial(DenseCRFRow, n_labels=3, ratio=4.5),
    "crf_4": partial(DenseCRFRow, n_labels=4, ratio=4),
    "crf_21": partial(DenseCRFRow, n_labels=21, ratio=3),
    "crf_torch": partial(DenseCRFRow, n_labels=3, backend="torch"),
    "boundary_training": BoundaryTraining,
    "boundary_training_amp": BoundaryTrainingAmp,
    "boundary_training_detached": BoundaryTrainingDetached,
    "train_cam": TrainCam,
    "make_cam": MakeCam,
    "make_boundary_label": MakeBoundaryLabel,
    "make_sem_seg": MakeSemSeg,
    "train_deeplab": TrainDeepLab,
    "predict_deeplab": PredictDeepLab,
    "make_deeplab_seg": MakeDeepLabSeg,
}


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    scale, folder = TINY if job["tiny"] else Scale(), Path(job["folder"])
    if job["do"] == "prepare":
        result: Any = prepare(scale, folder, large_images=job["large_images"])
    elif job["do"] == "loaders":
        result = loader_speeds(scale, folder)
    else:
        name, _, size = job["row"].partition("@")  # "walk@188x250": the walk on another grid
        row = ROWS[name](scale, folder, tuple(map(int, size.split("x"))) if size else None)
        if job["do"] == "side":
            side(row, job["side"], Path(sys.argv[2]))
            return
        if job["do"] == "differences":
            result = row.differences(*(torch.load(job[name]) for name in ("published", "ours")))
        else:
            result = memory(row, job["side"], Path(sys.argv[2]).with_suffix(".begun"))
    Path(sys.argv[2]).write_text(json.dumps(result))


def prepare(scale: Scale, folder: Path, *, large_images: int) -> dict[str, Any]:
    """Write the input files; describes the machine's torch, and whether it takes --amp."""
    inputs.write_weights(folder / "weights")
    for size, images in (scale.image, scale.images), (scale.large, large_images):
        if images:
            inputs.write_set(folder / "voc_{}x{}".format(*size), size, images)
    amp = fault_of(torch.device("cpu"), amp=True) is None
    return {"torch": torch.__version__, "threads": torch.get_num_threads(), "amp": amp}


def side(row: Row, name: str, result: Path) -> None:
    """Measure one side of a row as often as asked: for each line on stdin, a call and its seconds a unit on stdout.

    The first line on stdout describes the row. What the last call returned is written to `result`.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the steps print is no answer
    call = made(row, name)
    about = {"title": row.title, "unit": row.unit, "slow": row.slow, "targets": row.targets, "units": call.units}
    print(json.dumps(about), file=answers, flush=True)
    clock = time.thread_time if row.clock == "cpu" else time.perf_counter
    returned = None
    for _ in sys.stdin:
        started = clock()
        returned = call.run()
        print((clock() - started) / call.units, file=answers, flush=True)
    torch.save(returned, result)


def made(row: Row, side: str) -> Call:
    """A side of a row, ours as run_sample.py runs it."""
    if side == "published":
        return row.published()
    keep_freed_memory()
    return row.ours()


def memory(row: Row, side: str, begun: Path) -> dict[str, float]:
    """Resident bytes after imports and input building, and at the most during one call of one side; and how many
    of the former are no file's, which is what the watching process counts.

    begun     written when the call begins, for the process that watches
    """
    call = made(row, side)
    gc.collect()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the building
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    private = tree_bytes(os.getpid(), files=False)
    begun.touch()
    call.run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"baseline": pages * os.sysconf("SC_PAGESIZE"), "peak": peak, "private": private}


if __name__ == "__main__":
    main()
