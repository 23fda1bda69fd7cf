"""How good are saliency maps? MAE and max F-measure (β² = 0.3) against the objects of the demo set, by PySODMetrics.

    pip install -r requirements-sod.txt && pip install --no-deps pysodmetrics==1.6.2
    python -m benchmarks.saliency

Measured are the classical method of make_saliency, the maps that come with the set (noisy on purpose), a blob in
the middle that looks at nothing, and a black map. The set is the demo's (--seed, --images, --side) or, with
--voc12_root, any folder with JPEGImages/, SegmentationClass/ and Sal/. Objects are all pixels of a class; their void
rim counts as object.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from misc.formats.images import read_image, read_label_map, read_saliency
from misc.method.robust_background import robust_background_saliency
from voc12.generated_set import generate
from voc12.image_set import VOCRoot

BLOB = 0.25  # deviation of the blob in the middle, as a share of the image's sides

Method = Callable[[VOCRoot, str], np.ndarray]  # data set, ID → (H, W) in [0, 1]


def classical(root: VOCRoot, image_id: str) -> np.ndarray:
    return robust_background_saliency(read_image(root.image(image_id)))


def own(root: VOCRoot, image_id: str) -> np.ndarray:
    return read_saliency(root.saliency(image_id), read_image(root.image(image_id)).shape[:2])[0] / 255


def middle(root: VOCRoot, image_id: str) -> np.ndarray:
    height, width = read_image(root.image(image_id)).shape[:2]
    y, x = np.ogrid[:height, :width]
    y, x = (y + 0.5) / height - 0.5, (x + 0.5) / width - 0.5
    return np.exp(-(x**2 + y**2) / (2 * BLOB**2))


def black(root: VOCRoot, image_id: str) -> np.ndarray:
    return np.zeros(read_image(root.image(image_id)).shape[:2])


METHODS: dict[str, Method] = {
    "boundary connectivity (`make_saliency` without a model)": classical,
    "the maps that come with the set": own,
    "a blob in the middle": middle,
    "black": black,
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voc12_root", type=Path)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--side", type=int, default=128)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        if args.voc12_root is None:
            generate(Path(folder), seed=args.seed, train_images=args.images - 1, val_images=1, side=args.side)
        print("| saliency maps | MAE | max F |\n| --- | --- | --- |")
        for name, method in METHODS.items():
            mae, max_f = score(VOCRoot(args.voc12_root or Path(folder)), method)
            print(f"| {name} | {mae:.3f} | {max_f:.3f} |", flush=True)


def score(root: VOCRoot, method: Method) -> tuple[float, float]:
    """MAE and max F-measure of a method over all images that have a mask."""
    mae, f_measure = referees()
    for path in sorted((root.root / "SegmentationClass").glob("*.png")):
        truth = np.where(read_label_map(path) > 0, 255, 0).astype(np.uint8)
        saliency = np.rint(method(root, path.stem) * 255).astype(np.uint8)
        mae.step(saliency, truth)
        f_measure.step(saliency, truth)
    return float(mae.get_results()["mae"]), float(f_measure.get_results()["fm"]["dynamic"].max())


def referees() -> tuple[Any, Any]:
    """PySODMetrics' MAE and F-measure over all thresholds."""
    from py_sod_metrics import MAE, FmeasureHandler, FmeasureV2

    return MAE(), FmeasureV2(metric_handlers={"fm": FmeasureHandler(beta=0.3, with_dynamic=True, with_adaptive=False)})


if __name__ == "__main__":
    main()
