"""Every setting, with its default, its range and its help text.

Read by `read_config`: defaults < YAML (`--config`, may be given more than once) < command line.
"""

import math
import sys
from dataclasses import dataclass, field, fields
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentParser

from misc.cores import available_cores
from misc.errors import InputError, did_you_mean, nearest, reason

ALIASES = {"train_sbe_boundary_pass": "train_bes_pass"}  # published
DEEPLAB_SWITCHES = ("train_deeplab_pass", "make_deeplab_seg_pass", "eval_deeplab_seg_pass")


SWITCH_TYPES = (bool, bool | None)

# What a setting is of, if not of a step: it names files that are read, says where files are written, or how a run goes
# about its work. None of these changes what a finished file holds; the content of what is read enters by its digest.
DATA, FILES, RUN = "data", "files", "run"

# the steps that run a network
CONVOLUTIONS = (
    "train_backbone make_saliency train_cam make_cam train_sbe_boundary make_sem_seg train_deeplab make_deeplab_seg"
)


def setting(default: Any, text: str, *, of: str, low: float | None = None, high: float | None = None) -> Any:
    """A dataclass field.

    text        its help
    of          the steps whose results depend on it, separated by blanks, or one of DATA, FILES, RUN
    low, high   the closed range its value (or values) must lie in
    """
    return field(default=default, metadata={"help": text, "of": tuple(of.split()), "low": low, "high": high})


@dataclass(frozen=True)
class Config:
    """The settings of one run. The published flags keep their names and their published values."""

    # data
    voc12_root: str = setting("", "VOC root: JPEGImages/, Sal/, SegmentationClass/, Annotations/, ImageSets/.", of=DATA)
    saliency_dir: str | None = setting(None, "Saliency maps, ID.png (default: Sal/ in voc12_root).", of=DATA)
    truth_dir: str | None = setting(
        None, "Ground truth masks, ID.png (default: SegmentationClass/ in voc12_root).", of=DATA
    )
    class_names: str = setting(
        "voc12/class_names.txt", "Class names, one a line, in the order of their numbers.", of=DATA
    )
    cls_labels: str | None = setting(
        None,
        "Image labels: a line 'ID c c …' an image, classes from 0, or .csv with the header image_id,classes and names "
        "separated by ';', or cls_labels.npy of IRN, SEAM, EPS and others; an ID it lacks is looked up in Annotations/ "
        "(default: voc12/cls_labels.txt with VOC's class names, else Annotations/ alone).",
        of=DATA,
    )
    train_aug_list: str = setting("voc12/train_aug.txt", "Images both networks are trained on.", of=DATA)
    train_list: str = setting(
        "voc12/train.txt", "Images that get pseudo masks unless infer_list says otherwise.", of=DATA
    )
    val_list: str = setting("voc12/val.txt", "Images the classifier is validated on.", of=DATA)
    infer_list: str | None = setting(None, "Images that get pseudo masks (default: train_list).", of=DATA)
    chainer_eval_set: str = setting(
        "train", "The list that both evaluations use: a name in ImageSets/Segmentation, or the path of a .txt.", of=DATA
    )
    sweep_list: str | None = setting(
        None,
        "Images with ground truth on which the best threshold is chosen (default: the evaluated ones themselves).",
        of=DATA,
    )

    # steps
    make_demo_set_pass: bool = setting(False, "Generate the demo set into voc12_root first.", of=RUN)
    make_saliency_pass: bool = setting(
        False, "Make saliency maps of train_aug_list, with saliency_model or without.", of=RUN
    )
    train_backbone_pass: bool = setting(
        False, "Fit a ResNet-50 on the training images and save it as backbone_out.", of=RUN
    )
    train_cam_pass: bool = setting(True, "Train the classifier.", of=RUN)
    make_cam_pass: bool = setting(True, "Make class activation maps.", of=RUN)
    eval_cam_pass: bool = setting(True, "Evaluate the maps.", of=RUN)
    make_boundary_label_pass: bool = setting(True, "Synthesise boundary labels from maps and saliency.", of=RUN)
    train_sbe_boundary_pass: bool = setting(True, "Train the boundary network (also: train_bes_pass).", of=RUN)
    make_sem_seg_pass: bool = setting(True, "Propagate the maps within the boundaries into pseudo masks.", of=RUN)
    eval_sem_seg_pass: bool = setting(True, "Evaluate the pseudo masks.", of=RUN)
    deeplab: bool = setting(
        False, "The second stage: the three steps below, those apart that are switched off.", of=RUN
    )
    train_deeplab_pass: bool | None = setting(
        None, "Train a DeepLab-v2 on the pseudo masks (default: as deeplab says).", of=RUN
    )
    make_deeplab_seg_pass: bool | None = setting(
        None, "Predict masks with it, without and with CRF (default: as deeplab says).", of=RUN
    )
    eval_deeplab_seg_pass: bool | None = setting(None, "Evaluate its masks (default: as deeplab says).", of=RUN)
    report_pass: bool = setting(False, "Write a page about all of it: curves, scores, a gallery.", of=RUN)

    # how it runs
    method: Literal["sbe", "bes"] = setting(
        "sbe",
        "sbe uses saliency; bes is the baseline, which never reads it.",
        of="make_boundary_label train_sbe_boundary",
    )
    device: str = setting("auto", "auto (CUDA when there is one), cpu, cuda, cuda:1, …", of=RUN)
    num_workers: int | None = setting(
        None, "Threads that work beside the main one (default: one a core); 0: none.", of=RUN, low=0
    )
    amp: bool = setting(
        False,
        "Compute convolutions in bfloat16: faster, results differ a little.",
        of="train_cam make_cam train_sbe_boundary make_sem_seg train_deeplab make_deeplab_seg",
    )
    tf32: bool = setting(
        True,
        "On CUDA, compute float32 convolutions in TF32 where the card has it, as PyTorch does by default: faster, "
        "results differ a little.",
        of=CONVOLUTIONS,
    )
    deterministic: bool = setting(
        False, "On CUDA, the same run gives the same bytes again, as on a CPU: slower.", of=CONVOLUTIONS
    )
    seed: int = setting(
        5,
        "Seed of everything random.",
        of="make_demo_set train_backbone train_cam train_sbe_boundary train_deeplab",
        low=0,
        high=2**32 - 1,
    )
    log_name: str = setting("sample_train_eval", "The log goes to LOG_NAME.log.", of=FILES)
    overwrite: bool = setting(
        False, "Make anew what the enabled steps make, instead of keeping what is finished.", of=RUN
    )
    checkpoint_minutes: float = setting(
        10, "An unfinished training is saved after each epoch and, within one, this often.", of=RUN, low=0
    )
    tensorboard: bool = setting(
        False, "The curves of the trainings also as TensorBoard events, beside the checkpoint.", of=RUN
    )
    crf_backend: Literal["auto", "c", "torch", "pydensecrf"] = setting(
        "auto",
        "Who computes the dense CRFs: C on the cores of the CPU, torch on the device, pydensecrf where it is "
        "installed; auto: c, but torch in make_deeplab_seg on CUDA, and torch without a C compiler.",
        of=RUN,
    )
    eval_backend: Literal["own", "chainercv"] = setting(
        "own", "Who counts in the evaluations; both say the same.", of=RUN
    )

    # networks
    backbone_weights: str = setting(
        "imagenet",
        "imagenet (torchvision's IMAGENET1K_V1), a ResNet-50 state dict (.pth, .safetensors), or none.",
        of=DATA,
    )
    # published: the weight decay lands in SGD's momentum argument
    sgd_momentum: float = setting(
        1e-4, "Momentum of both optimisers.", of="train_cam train_sbe_boundary", low=0, high=1
    )
    cam_weights_name: str = setting("sess/res50_cam.pth", "The classifier's checkpoint.", of=FILES)
    bes_weights_name: str = setting("sess/res50_bes.pth", "The boundary network's checkpoint.", of=FILES)

    # make_saliency
    saliency_model: str | None = setting(
        None,
        "A detector as TorchScript (a program: trust its source) or ONNX; without one: a classical method, weak.",
        of=DATA,
    )
    saliency_preset: Literal["u2net", "basnet", "isnet", "birefnet", "csnet", "poolnet", "egnet"] | None = setting(
        None, "Whose detector it is: the defaults of the settings below (default: u2net).", of=DATA
    )
    saliency_input_size: int | None = setting(
        None,
        "Side of the square the detector sees, pixels; 0: the image's own size (default: what an ONNX file is bound "
        "to, else the preset's).",
        of=DATA,
        low=0,
    )
    saliency_mean: tuple[float, float, float] | None = setting(
        None,
        "Mean that the detector expects to be subtracted, of RGB from 0 to 1; with poolnet and egnet of BGR from 0 to "
        "255 (default: the preset's).",
        of=DATA,
    )
    saliency_std: tuple[float, float, float] | None = setting(
        None, "Deviation that it expects to be divided by (default: the preset's).", of=DATA, low=1e-6
    )
    saliency_map: int | str | None = setting(
        None,
        "Which of its outputs is the map: its number from 0, from the end if negative, or its name (default: the "
        "preset's).",
        of=DATA,
    )
    saliency_output: Literal["probability", "logit"] | None = setting(
        None, "What that holds; logits go through a sigmoid (default: the preset's).", of=DATA
    )
    saliency_stretch: bool | None = setting(
        None, "Whether each map is stretched to [0, 1] at last (default: the preset's).", of=DATA
    )

    # train_backbone
    backbone_out: str = setting(
        "sess/backbone.pth", "Where train_backbone saves; point backbone_weights there.", of=FILES
    )
    backbone_steps: int = setting(60, "Steps of train_backbone.", of="train_backbone", low=1)
    backbone_batch_size: int = setting(16, "Its batch size.", of="train_backbone", low=2)
    backbone_crop_size: int = setting(128, "Its crop, pixels.", of="train_backbone", low=32)
    backbone_learning_rate: float = setting(
        1e-3, "Its highest learning rate (AdamW, one cycle).", of="train_backbone", low=0
    )

    # make_demo_set
    demo_train_images: int = setting(160, "Training images of the demo set.", of="make_demo_set", low=1)
    demo_val_images: int = setting(32, "Validation images of the demo set.", of="make_demo_set", low=1)
    demo_side: int = setting(128, "About how large its images are, pixels.", of="make_demo_set", low=64)

    # train_cam
    cam_crop_size: int = setting(512, "Crop the classifier is trained on, pixels.", of="train_cam", low=32)
    cam_resize_long: tuple[int, int] = setting(
        (320, 512), "The long side is resized at random into this range before the crop, pixels.", of="train_cam", low=1
    )
    cam_batch_size: int = setting(16, "Batch size.", of="train_cam", low=1)
    cam_num_epoches: int = setting(5, "Epochs.", of="train_cam", low=1)
    cam_learning_rate: float = setting(
        0.1, "Learning rate of the backbone; the classifier's is ten times it.", of="train_cam", low=0
    )
    cam_weight_decay: float = setting(1e-4, "Weight decay.", of="train_cam", low=0)

    # make_cam, eval_cam
    cam_scales: tuple[float, ...] = setting(
        (1.0, 0.5, 1.5, 2.0), "Scales whose maps are added up.", of="make_cam", low=0.01, high=16
    )
    cam_file: Literal["published", "compact"] = setting(
        "published",
        "What its files hold: the maps (keys, cam, high_res), or what they are made of, in 1/36 of the bytes, which "
        "every step reads as well (docs/cams.md).",
        of="make_cam",
    )
    cam_out_dir: str = setting("result/cam", "The maps, ID.npy, of make_cam or of another method.", of=FILES)
    cam_format: Literal["auto", "sbe", "classes", "crf", "clip-es", "sipe"] = setting(
        "auto",
        "What the maps are: sbe (keys, cam, high_res: IRN, BES, SBE), classes (a map a class, from 0: SEAM, EPS, L2G, "
        "MCTformer), crf (0 background, classes from 1), clip-es (keys, attn_highres), sipe (keys, IS_CAM); auto: as "
        "each file tells.",
        of="eval_cam make_boundary_label make_sem_seg",
    )
    drop_extra_cams: bool = setting(False, "Leave out maps of classes the image does not show; else an error.", of=DATA)
    cam_eval_thres: float = setting(0.21, "Background score in eval_cam.", of="eval_cam", low=0, high=1)

    # make_boundary_label
    cam_vis_dir: str = setting("result/cam_vis", "Confidence maps, ID.png.", of=FILES)
    boundary_label_dir: str = setting("result/boundary_label", "Boundary labels, ID.png.", of=FILES)
    conf_fg_thres: float = setting(
        0.30, "Background score for confident foreground.", of="make_boundary_label", low=0, high=1
    )
    conf_bg_thres: float = setting(
        0.07, "Background score for confident background.", of="make_boundary_label", low=0, high=1
    )
    window_size: int = setting(
        13, "Side of the neighbourhood whose shares decide, odd, pixels.", of="make_boundary_label", low=1
    )
    theta_scale: float = setting(
        0.30, "Share a region needs beside a boundary.", of="make_boundary_label", low=0, high=1
    )
    theta_diff: float = setting(
        0.10, "Difference of shares below which a pixel lies between them.", of="make_boundary_label", low=0, high=1
    )
    salbound_thres: float = setting(
        0.5, "Saliency gradient above which a pixel is a salient boundary.", of="make_boundary_label", low=0
    )

    # train_sbe_boundary
    bes_crop_size: int = setting(
        512, "Crop the boundary network is trained on, pixels.", of="train_sbe_boundary", low=32
    )
    bes_batch_size: int = setting(16, "Batch size.", of="train_sbe_boundary", low=1)
    bes_num_epoches: int = setting(3, "Epochs.", of="train_sbe_boundary", low=1)
    bes_learning_rate: float = setting(0.1, "Learning rate.", of="train_sbe_boundary", low=0)
    bes_weight_decay: float = setting(1e-4, "Weight decay.", of="train_sbe_boundary", low=0)

    # make_sem_seg
    beta: float = setting(5, "Exponent of the affinity: larger means sharper walls.", of="make_sem_seg", low=0.01)
    exp_times: int = setting(8, "The walk takes 2**exp_times steps.", of="make_sem_seg", low=0, high=20)
    sem_seg_bg_thres: float = setting(
        0.21, "Background score in the masks.", of="make_sem_seg eval_sem_seg", low=0, high=1
    )
    sem_seg_out_dir: str = setting("result/sem_seg", "Pseudo masks: ID.png, ID_crf.png, ID_edge.png.", of=FILES)
    save_scores: bool = setting(
        False, "Keep the masks' scores as ID_scores.npz: eval_sem_seg sweeps thresholds on them.", of=FILES
    )

    # train_deeplab, make_deeplab_seg, eval_deeplab_seg
    deeplab_weights_name: str = setting("sess/deeplab.pth", "DeepLab-v2's checkpoint.", of=FILES)
    deeplab_backbone_weights: str = setting(
        "imagenet",
        "What it starts from: imagenet (torchvision's IMAGENET1K_V1), or a file: torchvision's ResNet-50 or -101, or "
        "the community's DeepLab weights (deeplabv1_resnet101-coco.pth); the names in it tell which.",
        of=DATA,
    )
    deeplab_depth: Literal[50, 101] = setting(101, "Its ResNet.", of="train_deeplab")
    deeplab_mask_dir: str | None = setting(
        None, "Masks to learn from, of make_sem_seg (default: sem_seg_out_dir) or of anybody.", of=DATA
    )
    deeplab_mask_suffix: str = setting(
        "_crf",
        "What follows the ID in their names: _crf or other text, or the word none for ID.png.",
        of="train_deeplab",
    )
    deeplab_loss: Literal["ce", "balanced"] = setting(
        "ce",
        "Mean cross entropy, or half its mean over the background plus half its mean over the classes.",
        of="train_deeplab",
    )
    deeplab_crop_size: int = setting(321, "Crop it is trained on, pixels.", of="train_deeplab", low=33)
    deeplab_scales: tuple[float, ...] = setting(
        (0.5, 0.75, 1.0, 1.25, 1.5),
        "A training image is resized by one of these, drawn at random.",
        of="train_deeplab",
        low=0.01,
        high=16,
    )
    deeplab_batch_size: int = setting(5, "Images that go through it at once.", of="train_deeplab", low=1)
    deeplab_iter_size: int = setting(
        2, "Such batches a step: a step's batch is deeplab_batch_size times this.", of="train_deeplab", low=1
    )
    deeplab_steps: int = setting(20000, "Steps.", of="train_deeplab", low=1)
    deeplab_learning_rate: float = setting(
        2.5e-4,
        "Learning rate of the backbone; the head's is 10 times it, that of its biases 20.",
        of="train_deeplab",
        low=0,
    )
    deeplab_momentum: float = setting(0.9, "Momentum.", of="train_deeplab", low=0, high=1)
    deeplab_weight_decay: float = setting(5e-4, "Weight decay, but not of biases.", of="train_deeplab", low=0)
    deeplab_checkpointing: bool = setting(
        False, "Less memory, more time: compute activations again in the backward pass.", of=RUN
    )
    deeplab_validate_every: int = setting(
        0, "Measure the mIoU without CRF on images of val_list after so many steps; 0: never.", of=RUN, low=0
    )
    deeplab_validate_images: int = setting(100, "How many images that is, spread over the list.", of=RUN, low=1)
    deeplab_infer_list: str | None = setting(None, "Images to predict masks of (default: val_list).", of=DATA)
    deeplab_test_scales: tuple[float, ...] = setting(
        (1.0,),
        "The image is predicted at these scales, the probabilities averaged.",
        of="make_deeplab_seg",
        low=0.01,
        high=16,
    )
    deeplab_test_flip: bool = setting(False, "And mirrored as well.", of="make_deeplab_seg")
    deeplab_out_dir: str = setting("result/deeplab", "The network's masks: ID.png, ID_crf.png.", of=FILES)
    deeplab_eval_set: str = setting("val", "The list that eval_deeplab_seg uses, as chainer_eval_set.", of=DATA)

    voc_submission: Literal["comp5", "comp6"] | None = setting(
        None,
        "eval_deeplab_seg packs the masks after CRF of voc12/test.txt as deeplab_out_dir/results.tar.gz for VOC's "
        "server, which evaluates them; comp6: trained on more than VOC's own data (SBD, COCO).",
        of=RUN,
    )

    # report
    report_dir: str = setting("result/report", "The page, index.html, and its figures.", of=FILES)
    report_images: int = setting(
        60, "Most images in its gallery: the best, the worst, some between.", of="report", low=1, high=1000
    )
    report_class: str | None = setting(None, "Only images that show this class in its gallery.", of="report")

    def __post_init__(self) -> None:
        for name in DEEPLAB_SWITCHES:
            if getattr(self, name) is None:
                object.__setattr__(self, name, self.deeplab)  # what __init__ itself does where a dataclass is frozen
        for f in fields(self):
            values = getattr(self, f.name)
            if values is None and f.default is not None:
                raise InputError(f"{f.name}: null is not accepted; leave it out for its default")
            if values == "" and f.default != "":
                raise InputError(f"{f.name}: it is empty; leave it out for its default")
            low, high = f.metadata["low"], f.metadata["high"]
            for value in values if isinstance(values, tuple) else (values,):
                if value is not None and not _in_range(value, low, high):
                    raise InputError(f"{f.name}: {value} is not {_range_text(low, high)}")
        if self.window_size % 2 == 0:
            raise InputError(f"window_size: {self.window_size} is even; the window needs a middle pixel")
        for name in ("cam_scales", "deeplab_scales", "deeplab_test_scales"):
            if not getattr(self, name):
                raise InputError(f"{name}: at least one scale is needed")
        if self.cam_resize_long[0] > self.cam_resize_long[1]:
            raise InputError(f"cam_resize_long: {list(self.cam_resize_long)} ends before it begins")

    def of(self, step: str) -> dict[str, Any]:
        """The settings that the results of a step depend on, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if step in f.metadata["of"]}

    @property
    def infer_list_or_default(self) -> str:
        return self.infer_list or self.train_list

    @property
    def deeplab_infer_list_or_default(self) -> str:
        return self.deeplab_infer_list or self.val_list

    @property
    def deeplab_mask_dir_or_default(self) -> str:
        return self.deeplab_mask_dir or self.sem_seg_out_dir

    @property
    def uses_saliency(self) -> bool:
        return self.method == "sbe"

    @property
    def workers(self) -> int:
        """Threads to start beside the main one; 0 means: work in the main one."""
        return available_cores() if self.num_workers is None else self.num_workers


def read_config(argv: list[str] | None = None) -> Config:
    """The settings from the command line (default: sys.argv) and the YAML files it names.

    Raises    InputError naming the setting, for an unknown one, a wrong type or a value out of range.
    """
    arguments = sys.argv[1:] if argv is None else argv
    spelt_out = [_spell_out(argument) for argument in arguments]
    values = vars(_parser().parse_args(_files_first(spelt_out)))
    values.pop("config", None)
    return Config(**values)


def _files_first(arguments: list[str]) -> list[str]:
    """The command line with the YAML files in front, as the parser lets what comes later win; InputError for a bad one.

    Files that set nothing, or nothing but null, are said otherwise: the parser takes them for an error.
    """
    files: list[str] = []
    others: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, path = argument.partition("=")
        if name != "--config":
            others.append(argument)
        else:
            content = _settings_in(path := path if equals else next(rest, ""))
            if any(value is not None for value in content.values()):
                files.append(f"--config={path}")
            else:
                files += [f"--{name}=null" for name in content]
    return files + others


def _settings_in(path: str) -> dict[str, Any]:
    """What a YAML file sets; InputError if it cannot be read, or what it sets does not exist or gets no value."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError) as error:
        unfinished = Path(path).name == "set.yaml" and (Path(path).parent / "conversion.json").is_file()
        why = ": the conversion into this folder has not ended, run it again" if unfinished else ""
        raise InputError(f"config: there is no file {path!r}{why}") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        what = getattr(error, "problem", None) or reason(error)
        raise InputError(f"{path}{line}: cannot be read as YAML ({what})") from error
    if content is not None and not isinstance(content, dict):
        raise InputError(f"{path}: expected lines of 'setting: value'")
    defaults = {f.name: f.default for f in fields(Config)}
    defaults |= {alias: defaults[name] for name, alias in ALIASES.items()}
    for name, value in (content or {}).items():
        if name not in defaults:
            raise InputError(f"{path}: there is no setting {name!r}{nearest(str(name), defaults)}")
        if value is None and defaults[name] is not None:
            raise InputError(f"{path}: {name} has no value: give it one, or leave it out for its default")
    return content or {}


def _parser() -> ArgumentParser:
    parser = _OneLineParser(
        prog="run_sample.py",
        description="SBE: from image-level labels and saliency maps to pixel-level pseudo masks.",
        epilog="A switch takes --x, --x true, --x false or --no_x.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", help="A YAML file of settings; later ones win.")
    hints = get_type_hints(Config)
    for f in fields(Config):
        switch: dict[str, Any] = {"nargs": "?", "const": True} if hints[f.name] in SWITCH_TYPES else {}
        names = [f"--{name}" for name in (f.name, ALIASES.get(f.name)) if name]
        parser.add_argument(*names, type=hints[f.name], default=f.default, help=f.metadata["help"], **switch)
    return parser


def _spell_out(argument: str) -> str:
    """--no_x and --no-x mean --x=false, for the switches."""
    switches = {f.name for f in fields(Config) if f.type in SWITCH_TYPES} | set(ALIASES.values())
    name = argument[5:].replace("-", "_")
    return f"--{name}=false" if argument[:5] in ("--no-", "--no_") and name in switches else argument


class _OneLineParser(ArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> Any:
        """InputError on one line; where the message names a setting, with the values that this takes, in words."""
        text = " ".join(str(message).split())
        for name, hint in get_type_hints(Config).items():
            if f'"{name}"' in text.partition(":")[0]:
                value = text.rpartition(": ")[2]
                raise InputError(f"{name}: {value} is not {_in_words(hint)}")
        off = (f"--no_{name}" for name, hint in get_type_hints(Config).items() if hint in SWITCH_TYPES)
        raise InputError(text + did_you_mean(text, [*self._option_string_actions, *off]))


WORDS = {int: "whole number", float: "number", str: "text"}
EXAMPLES = {int: ("256", "512"), float: ("0.5", "1.0")}


def _in_words(hint: Any) -> str:
    """The values that a setting of this type takes, those apart that stand for none."""
    parts = [part for part in get_args(hint) if part is not type(None)]
    if hint is bool:
        return "true or false"
    if hint in WORDS:
        return f"a {WORDS[hint]}"
    if get_origin(hint) is tuple:
        count = 2 if ... in parts else len(parts)
        example = ", ".join(islice(cycle(EXAMPLES[parts[0]]), count))
        many = "" if ... in parts else f"{count} "
        return f'a list of {many}{WORDS[parts[0]]}s in brackets, such as "[{example}]"'
    if get_origin(hint) is Literal:
        return " or ".join(map(str, parts)) if len(parts) == 2 else f"one of {', '.join(map(str, parts))}"
    return " or ".join(map(_in_words, parts))


def _in_range(value: Any, low: float | None, high: float | None) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return (low is None or value >= low) and (high is None or value <= high)


def _range_text(low: float | None, high: float | None) -> str:
    if high is None:
        return f"a finite number of at least {low}"
    return f"at most {high}" if low is None else f"between {low} and {high}"
