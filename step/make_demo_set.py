"""Generate the small VOC-format set of the demo."""

from pathlib import Path

from misc.config import Config
from misc.errors import InputError
from voc12.generated_set import generate


def run(args: Config) -> None:
    """Write the set that `seed` stands for into voc12_root."""
    if not args.voc12_root:
        raise InputError("voc12_root is not set: pass --voc12_root PATH, where the demo set is to be written")
    generate(
        Path(args.voc12_root),
        seed=args.seed,
        train_images=args.demo_train_images,
        val_images=args.demo_val_images,
        side=args.demo_side,
    )
