"""How published detectors of salient objects are fed and read: what their authors' own test scripts do."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from misc.errors import InputError
from misc.pixels import Pixels

RGB, BGR = "RGB from 0 to 1", "BGR from 0 to 255"


@dataclass(frozen=True)
class Handling:
    """How a detector is fed, and how its answer is read. But for `channels`, each is a setting `saliency_NAME`.

    input_size  (height, width) that it sees, pixels; 0: the image's own
    map         the output that is the map: its number, counted from the end if negative, or its name
    output      what the map holds; logits go through a sigmoid
    stretch     each map is stretched to [0, 1] at last
    channels    RGB or BGR
    mean, std   of the channels, subtracted and divided by
    """

    input_size: tuple[int, int]
    map: int | str
    output: Literal["probability", "logit"]
    stretch: bool
    channels: str = RGB
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # ImageNet's
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @property
    def pixels(self) -> Pixels:
        """The same as numbers of RGB from 0 to 255."""
        (m0, m1, m2), (s0, s1, s2) = self.mean, self.std
        if self.channels == BGR:
            return Pixels((m2, m1, m0), (s2, s1, s0), bgr=True)
        return Pixels((255 * m0, 255 * m1, 255 * m2), (255 * s0, 255 * s1, 255 * s2), bgr=False)

    def __str__(self) -> str:
        return ", ".join(f"{name.removeprefix('saliency_')} {text}" for name, text in self.in_words().items())

    def in_words(self) -> dict[str, str]:
        """Each value as a text, by the name of its setting."""
        height, width = (str(side or "own") for side in self.input_size)
        values = {
            "input_size": f"{height}×{width}",
            "map": str(self.map),
            "output": self.output,
            "stretch": str(self.stretch).lower(),
            "channels": self.channels,
            "mean": str(list(self.mean)),
            "std": str(list(self.std)),
        }
        return {f"saliency_{name}": text for name, text in values.items()}


_POOLNET = Handling(
    input_size=(0, 0),
    map=0,
    output="logit",
    stretch=False,
    channels=BGR,
    mean=(104.007, 116.669, 122.679),  # Caffe's
    std=(1.0, 1.0, 1.0),
)
# Outputs are counted through nested lists, in the order in which an export to ONNX lays them out.
PRESETS = {
    # u2net_test.py (Qin et al., Pattern Recognition 2020): the fused map, then six side outputs
    "u2net": Handling((320, 320), map=0, output="probability", stretch=True),
    # basnet_test.py (Qin et al., CVPR 2019): the refined map, then seven side outputs
    "basnet": Handling((256, 256), map=0, output="probability", stretch=True),
    # Inference.py of DIS (Qin et al., ECCV 2022): a list of six maps, the finest first, then one of features
    "isnet": Handling((1024, 1024), map=0, output="probability", stretch=True, mean=(0.5,) * 3, std=(1.0,) * 3),
    # inference.py (Zheng et al., CAAI Artificial Intelligence Research 2024): the last map is the finest
    "birefnet": Handling((1024, 1024), map=-1, output="logit", stretch=False),
    # test.py of SOD100K (Gao et al., ECCV 2020)
    "csnet": Handling((224, 224), map=0, output="logit", stretch=False),
    # solver.py (Liu et al., CVPR 2019)
    "poolnet": _POOLNET,
    # solver.py (Zhao et al., ICCV 2019): a list of edges, then saliency; the last map is of both
    "egnet": replace(_POOLNET, map=-1),
}
DEFAULT = "u2net"  # most detectors' exports are made like it


def handling(
    preset: str | None = None, *, file_size: tuple[int, int] = (0, 0), input_size: int | None = None, **settings: Any
) -> Handling:
    """A preset in which the file's own size, then single settings, replace what it says.

    file_size   (height, width) that the detector's file is bound to, 0 where it takes any
    input_size  of a square, 0: the image's own size; None: the file's, else the preset's
    settings    fields of Handling; None: the preset's
    Raises      InputError if a mean of RGB from 0 to 1 is above 1
    """
    row = PRESETS[preset or DEFAULT]
    height, width = (
        (fixed or usual) if input_size is None else input_size
        for fixed, usual in zip(file_size, row.input_size, strict=True)
    )
    given = {name: value for name, value in settings.items() if value is not None}
    found = replace(row, input_size=(height, width), **given)
    if found.channels == RGB and max(found.mean) > 1:
        raise InputError(
            f"saliency_mean: {list(found.mean)} is above 1, expected the mean of RGB from 0 to 1: divide it and "
            "saliency_std by 255 or, if the detector takes BGR from 0 to 255, say --saliency_preset poolnet"
        )
    return found
