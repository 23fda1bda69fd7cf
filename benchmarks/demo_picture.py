"""Draw the README's picture: some demo images from input to mask, as in the report.

    python -m benchmarks.demo_picture --config configs/demo.yaml --out docs/demo.png

Columns: input, saliency, CAM, boundary label, predicted boundary, mask, mask + CRF, ground truth.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from misc.config import Config, read_config
from misc.pixels import rescale
from step.report.pictures import panels_of
from step.shared.data import DataSet, Labelled

TILE = 128
COLUMNS = ("input", "saliency", "CAM", "boundary label", "predicted boundary", "mask", "mask + CRF", "ground truth")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/demo.yaml")
    parser.add_argument("--out", type=Path, default=Path("docs/demo.png"))
    parser.add_argument("--ids", nargs="+", default=["demo_00000", "demo_00002", "demo_00003", "demo_00011"])
    parsed = parser.parse_args()
    args = read_config(["--config", parsed.config])
    parsed.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [row(image, args) for image in DataSet(args).labelled(parsed.ids)]
    Image.fromarray(np.vstack(rows)).save(parsed.out, optimize=True)


def row(image: Labelled, args: Config) -> np.ndarray:
    """(TILE, 8·TILE, 3) uint8: everything the chain made of one image; black where there is nothing."""
    nothing = np.zeros((1, 1, 3), np.uint8)
    panels = panels_of(image, args=args, data=DataSet(args))
    pictures = {panel.name: nothing if panel.picture is None else panel.picture for panel in panels}
    return np.hstack([rescale(pictures[name], (TILE, TILE), Image.Resampling.NEAREST) for name in COLUMNS])


if __name__ == "__main__":
    main()
