"""Draw the README's picture: some demo images from input to mask.

    python -m benchmarks.demo_picture --demo result/demo --out docs/demo.png

Columns: input, saliency, CAM (strongest class), boundary label, predicted boundary, mask, mask + CRF,
ground truth. Boundary labels: black background, dark grey object, light grey undecided, white boundaries.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from misc.boundary_labels import BoundaryLabel
from misc.cam_file import read_cam
from misc.image_io import read_label_map

TILE = 128
SHADES = {BoundaryLabel.BACKGROUND: 0, BoundaryLabel.FOREGROUND: 70, BoundaryLabel.IGNORE: 150}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path("result/demo"))
    parser.add_argument("--out", type=Path, default=Path("docs/demo.png"))
    parser.add_argument("--ids", nargs="+", default=["demo_00000", "demo_00002", "demo_00003", "demo_00011"])
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack([row(args.demo, image_id) for image_id in args.ids])).save(args.out, optimize=True)


def row(demo: Path, image_id: str) -> np.ndarray:
    """(TILE, 8·TILE, 3) uint8: everything the chain made of one image."""
    cam = read_cam(demo / "cam" / f"{image_id}.npy").cam_full.max(axis=0)
    label = read_label_map(demo / "boundary_label" / f"{image_id}.png")
    shaded = np.full(label.shape, 255, np.uint8)
    for value, shade in SHADES.items():
        shaded[label == value] = shade
    pictures = [
        Image.open(demo / "voc" / "JPEGImages" / f"{image_id}.jpg"),
        Image.open(demo / "voc" / "Sal" / f"{image_id}.png"),
        Image.fromarray((cam * 255).astype(np.uint8)),
        Image.fromarray(shaded),
        *(Image.open(demo / "sem_seg" / f"{image_id}{ending}.png") for ending in ("_edge", "", "_crf")),
        Image.open(demo / "voc" / "SegmentationClass" / f"{image_id}.png"),
    ]
    return np.hstack([np.array(p.convert("RGB").resize((TILE, TILE), Image.Resampling.NEAREST)) for p in pictures])


if __name__ == "__main__":
    main()
