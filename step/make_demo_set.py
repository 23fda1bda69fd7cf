"""Generate the small VOC-format set of the demo."""

from pathlib import Path

from misc.config import Config
from misc.errors import InputError
from voc12.generated_set import ID_PREFIX, generate


def is_generated(path: Path) -> bool:
    """Whether a file is one of a demo set: named after its images, a list of them, or left by an interruption."""
    if path.suffix == ".tmp":
        return True
    if path.suffix == ".txt":
        return path.read_text(encoding="utf-8", errors="replace").startswith(ID_PREFIX)
    return path.name.startswith(ID_PREFIX)


def make(args: Config) -> None:
    """Write the set that `seed` stands for into voc12_root."""
    if not args.voc12_root:
        raise InputError("voc12_root is not set: pass --voc12_root PATH, where the demo set is to be written")
    root = Path(args.voc12_root)
    foreign = next((path for path in root.rglob("*") if path.is_file() and not is_generated(path)), None)
    if foreign is not None:
        raise InputError(f"make_demo_set would write beside {foreign}, which is no demo set: choose another voc12_root")
    generate(
        root,
        seed=args.seed,
        train_images=args.demo_train_images,
        val_images=args.demo_val_images,
        side=args.demo_side,
    )
