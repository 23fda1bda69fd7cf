"""Where each kind of file lies that steps make."""

from pathlib import Path

from misc.config import Config


def cam(args: Config, image_id: str) -> Path:
    return Path(args.cam_out_dir) / f"{image_id}.npy"


def confidence_map(args: Config, image_id: str) -> Path:
    return Path(args.cam_vis_dir) / f"{image_id}.png"


def boundary_label(args: Config, image_id: str) -> Path:
    return Path(args.boundary_label_dir) / f"{image_id}.png"


def mask(args: Config, image_id: str) -> Path:
    return Path(args.sem_seg_out_dir) / f"{image_id}.png"


def crf_mask(args: Config, image_id: str) -> Path:
    """The mask after the dense CRF."""
    return Path(args.sem_seg_out_dir) / f"{image_id}_crf.png"


def edge(args: Config, image_id: str) -> Path:
    """The predicted boundary, at stride 4."""
    return Path(args.sem_seg_out_dir) / f"{image_id}_edge.png"


def scores(args: Config, image_id: str) -> Path:
    """The scores that the mask of an image was made of."""
    return Path(args.sem_seg_out_dir) / f"{image_id}_scores.npz"


def cam_scores_json(args: Config) -> Path:
    """What eval_cam says of the CAMs."""
    return Path(args.cam_out_dir) / "eval_cam.json"


def mask_scores_json(args: Config) -> Path:
    """What eval_sem_seg says of the masks."""
    return Path(args.sem_seg_out_dir) / "eval_sem_seg.json"


def deeplab_mask(args: Config, image_id: str) -> Path:
    """The mask that DeepLab-v2 learns from."""
    suffix = "" if args.deeplab_mask_suffix == "none" else args.deeplab_mask_suffix
    return Path(args.deeplab_mask_dir_or_default) / f"{image_id}{suffix}.png"


def prediction(args: Config, image_id: str) -> Path:
    """DeepLab-v2's mask."""
    return Path(args.deeplab_out_dir) / f"{image_id}.png"


def crf_prediction(args: Config, image_id: str) -> Path:
    return Path(args.deeplab_out_dir) / f"{image_id}_crf.png"


def prediction_scores_json(args: Config) -> Path:
    """What eval_deeplab_seg says of its masks."""
    return Path(args.deeplab_out_dir) / "eval_deeplab_seg.json"


def submission(args: Config) -> Path:
    """What VOC's server is given."""
    return Path(args.deeplab_out_dir) / "results.tar.gz"
