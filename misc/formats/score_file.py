"""The scores a mask was made of, in a small file: thresholds can be tried on them without a second random walk.

A compressed .npz that a plain np.load reads: `keys` int64 [K], `scores` float16 K×h×w at stride 4, divided by their
maximum at the size of the image, and that `size` int64 [H, W]. Equal scores make equal files.
"""

import zipfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from misc.errors import InputError, reason
from misc.files import replacing
from misc.pixels import stride4

ENTRIES = ("keys", "scores", "size")
HEADERS = 4096  # bytes: more than the headers of the three arrays take


def write_scores(path: str | Path, keys: np.ndarray, scores_s4: np.ndarray, size: tuple[int, int]) -> int:
    """Save the scores of an image.

    keys        (K,) int64, its classes, from 0
    scores_s4   (K, h, w) float32 in [0, 2], saved as float16: 11 significant bits
    size        (H, W) of the image
    Returns     the bytes of the file.
    """
    half = scores_s4.astype(np.float16)
    with replacing(path) as temporary:
        with open(temporary, "wb") as file:  # given a name, np.savez would add .npz to it
            np.savez_compressed(file, keys=keys.astype(np.int64), scores=half, size=np.array(size, np.int64))
        return temporary.stat().st_size


def read_scores(path: str | Path, *, size: tuple[int, int], n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Read the scores of an image of `size`, with C = n_classes.

    Returns   keys (K,) int64 and scores at the size of the image (K, H, W) float32: `at_full_size` of the saved ones.
    Raises    InputError if the file is missing, unreadable or made for another image size or other classes.
    """
    grid = stride4(size[0]), stride4(size[1])
    try:
        with zipfile.ZipFile(path) as archive:
            # a file that unpacks to more than the scores of all C classes is refused before it fills the memory
            if sum(entry.file_size for entry in archive.infolist()) > 2 * n_classes * (grid[0] * grid[1] + 8) + HEADERS:
                raise ValueError("it holds more than the scores of such an image")
        with np.load(path, allow_pickle=False) as file:
            keys, scores, saved_size = (file[name] for name in ENTRIES)
        _check(keys, scores, saved_size, size, n_classes)
    except FileNotFoundError as error:
        raise InputError(f"no scores at {path}: run make_sem_seg with --save_scores") from error
    except Exception as error:  # a damaged file can raise anything
        raise InputError(f"{path}: cannot be used as scores ({reason(error)})") from error
    return keys, at_full_size(torch.from_numpy(scores.astype(np.float32)), size).numpy()


def _check(keys: np.ndarray, scores: np.ndarray, saved_size: np.ndarray, size: tuple[int, int], n_classes: int) -> None:
    if saved_size.tolist() != list(size):
        raise ValueError(f"made for an image of {saved_size.tolist()}, not {list(size)}")
    if keys.dtype != np.int64 or scores.dtype != np.float16:
        raise ValueError(f"keys should be int64 and scores float16, they are {keys.dtype} and {scores.dtype}")
    if keys.ndim != 1 or scores.shape != (len(keys), stride4(size[0]), stride4(size[1])):
        raise ValueError(f"{keys.shape} keys and scores {scores.shape} do not fit an image of {list(size)}")
    if len(set(keys.tolist())) < len(keys) or (len(keys) and not 0 <= keys.min() <= keys.max() < n_classes):
        raise ValueError(f"keys {keys.tolist()} are not classes, each once (0 to {n_classes - 1})")
    if not np.isfinite(scores).all():
        raise ValueError("the scores hold NaN or infinity")


def at_full_size(scores_s4: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(K, h, w) float32 at stride 4 → (K, H, W): bilinear ×4, cropped. K may be 0.

    Source: docs/method.md, section 6.
    """
    if len(scores_s4) == 0:
        return scores_s4.new_zeros((0, *size))
    full = F.interpolate(scores_s4[None], scale_factor=4, mode="bilinear", align_corners=False)[0]
    return full[:, : size[0], : size[1]]
