import numpy as np
import pytest
import torch

from misc.config import Config
from misc.errors import InputError
from misc.formats.images import read_label_map
from misc.formats.score_file import read_scores, write_scores
from misc.method.masks import classes_of, strongest
from misc.run.pinned import Download
from step.make_sem_seg import Propagated, Walked, finish, mask_paths, propagated_scores, refine_and_save
from step.shared.data import DataSet


@pytest.mark.parametrize("image", range(6))
def test_golden(golden, image, tmp_path, device):
    """From the network's output on: the three files that make_sem_seg writes."""
    from PIL import Image

    g = golden("pseudo_masks")
    name = str(g["ids"][image])
    pixels, keys, edge = g[f"img_{name}"], g[f"keys_{name}"], g[f"edge_{name}"][0]
    (tmp_path / "JPEGImages").mkdir()
    # a PNG under the name of the JPEG, so that no pixel changes
    Image.fromarray(pixels).save(tmp_path / "JPEGImages" / f"{name}.jpg", format="PNG")
    args = Config(voc12_root=str(tmp_path), sem_seg_out_dir=str(tmp_path / "sem_seg"), device=str(device))

    scores_s4, scores = propagated_scores(
        torch.from_numpy(g[f"cam_{name}"]).to(device),
        torch.from_numpy(edge).to(device),
        pixels.shape[:2],
        beta=5,
        exp_times=8,
    )
    winners = strongest(scores, 0.21)
    refine_and_save(Propagated(name, winners, keys, edge), args=args, data=DataSet(args))

    mask, refined, boundary = map(read_label_map, mask_paths(args, name))
    assert (mask == g[f"sem_seg_{name}"]).mean() >= 0.999
    assert (refined == g[f"sem_seg_crf_{name}"]).mean() >= 0.999
    np.testing.assert_array_equal(boundary, g[f"edge_png_{name}"])
    write_scores(tmp_path / "scores.npz", keys, scores_s4, pixels.shape[:2])
    saved_keys, saved = read_scores(tmp_path / "scores.npz", size=pixels.shape[:2], n_classes=20)
    assert (classes_of(saved, saved_keys, 0.21) == g[f"sem_seg_{name}"]).mean() >= 0.999


def test_no_class_and_no_evidence_give_background():
    size, edge = (9, 14), torch.zeros(3, 4)
    nothing_s4, nothing = propagated_scores(torch.zeros(0, 3, 4), edge, size, beta=5, exp_times=8)
    _, blank = propagated_scores(torch.zeros(2, 3, 4), edge, size, beta=5, exp_times=8)
    assert nothing_s4.shape == (0, 3, 4) and nothing.shape == (0, *size) and np.isfinite(blank).all()
    assert not strongest(nothing, 0.21).any() and not strongest(blank, 0.21).any()


def test_boundaries_that_are_not_finite_are_refused_before_anything_is_written(tmp_path):
    args = Config(voc12_root=str(tmp_path), sem_seg_out_dir=str(tmp_path / "sem_seg"), bes_weights_name="net.pth")
    download = Download(torch.full((2, 3), torch.nan), torch.zeros(8, 12, dtype=torch.uint8))
    with pytest.raises(InputError, match=r"^net\.pth: .*boundaries of a are not finite"):
        finish(Walked("a", download, np.array([1]), ()), args=args, data=DataSet(args))
    assert not (tmp_path / "sem_seg").exists()
