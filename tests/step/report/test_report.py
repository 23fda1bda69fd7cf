"""The report of a tiny chain: what is on the page, what is said to be missing, and what is refused."""

import logging
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from misc.config import read_config
from misc.formats.images import read_label_map
from run_sample import main
from step.report.gallery import best_worst_and_between, choose, evenly, words_of_choice
from step.report.pictures import image_iou, panels_of
from step.report.step import FIGURES
from step.shared.data import DataSet
from tests.html_page import Element, check_page, read_page
from tests.test_chain import error_of, only
from voc12.image_set import read_list

REPORT = [*only(), "--report_pass"]


def page_of(folder) -> Element:
    tree = read_page((folder / "index.html").read_text(encoding="utf-8"))
    check_page(tree)
    return tree


def gaps_of(tree: Element) -> list[str]:
    return [item.text for gaps in tree.all("ul", "gaps") for item in gaps.all("li")]


def ids_of(tree: Element) -> list[str]:
    return [card.attributes["data-id"] for card in tree.all("article")]


def problems_of(arguments: list[str], capsys) -> list[str]:
    """What is said of a command line that is refused for several reasons, one by one."""
    assert main(arguments) == 2
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("  - ")]


def all_ids(root) -> list[str]:
    return read_list(root / "ImageSets" / "Segmentation" / "train.txt")


# --- the whole page


def test_a_finished_chain(finished_args, tiny_voc, tmp_path, capsys):
    assert main([*finished_args(), *only("eval_cam", "eval_sem_seg"), "--report_pass"]) == 0
    assert not logging.getLogger("matplotlib.font_manager").isEnabledFor(logging.INFO)  # "generated new fontManager"
    folder = tmp_path / "report"
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {folder / 'index.html'}"  # the last line
    tree = page_of(folder)
    assert ids_of(tree) == all_ids(tiny_voc)  # whose corners grow with their number
    first, last = tree.all("article")[0], tree.all("article")[-1]
    assert [c.text for c in first.all("figcaption")] == [
        "input", "ground truth", "CAM 100.0 %", "saliency", "boundary label", "predicted boundary",
        "mask 100.0 %", "mask + CRF 100.0 %",
    ]  # fmt: skip
    assert last.attributes["data-iou"].startswith("1.000000,1.000000,0.")
    assert "4 of 4 images with ground truth, by the IoU of mask + CRF: all." in tree.text
    charts = [figure.all("figcaption")[0].text for figure in tree.all("figure", "chart")]
    shown = {name for name in FIGURES if any(name in chart for chart in charts)}
    assert {path.name for path in folder.iterdir()} == shown | {"index.html"}
    assert shown >= {"train_cam.png", "train_sbe_boundary.png", "iou.png", "confusion_mask_crf.png"}
    assert any("Loss of train_cam over 10 steps, from 0.200 to 0.100" in i.attributes["alt"] for i in tree.all("img"))


def test_it_is_the_same_again_whoever_works(finished_args, tmp_path):
    for number, workers in enumerate((0, 2)):
        assert main([*finished_args(num_workers=workers, report_dir=tmp_path / f"r{number}"), *REPORT]) == 0
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / f"r{n}").iterdir()} for n in (0, 1))
    assert first == second


def test_what_has_not_been_run_is_said(finished_args, tmp_path):
    for name in ("cam.pth", "bes.pth"):
        (tmp_path / "sess" / f"{name}.history.jsonl").unlink()
    assert main([*finished_args(), *REPORT]) == 0
    tree = page_of(tmp_path / "report")
    gaps = gaps_of(tree)
    assert any("Run train_cam." in gap for gap in gaps) and any("Run train_sbe_boundary." in gap for gap in gaps)
    assert any("Run eval_cam; it needs ground truth." in gap for gap in gaps)
    assert any("Run eval_sem_seg; it needs ground truth." in gap for gap in gaps)
    assert not tree.all("figure", "chart") and len(ids_of(tree)) == 4


def test_figures_of_what_is_gone_go_as_well(finished_args, tmp_path, abandoned):
    left = abandoned(tmp_path / "report" / "train_cam.png")
    assert main([*finished_args(), *REPORT]) == 0
    assert not left.exists()
    assert (tmp_path / "report" / "train_cam.png").is_file()
    (tmp_path / "sess" / "cam.pth.history.jsonl").unlink()
    (tmp_path / "report" / "mine.png").touch()
    assert main([*finished_args(), *REPORT]) == 0
    assert not (tmp_path / "report" / "train_cam.png").exists()
    assert (tmp_path / "report" / "mine.png").exists()


def test_a_history_alone_makes_a_report_with_an_empty_gallery(finished_args, tmp_path):
    empty = {name: tmp_path / "nothing" / name for name in ("cam_out_dir", "boundary_label_dir", "sem_seg_out_dir")}
    assert main([*finished_args(**empty), *REPORT]) == 0
    tree = page_of(tmp_path / "report")
    assert "The gallery is empty: nothing has been made of the 4 images yet. Run make_cam." in tree.text
    assert len(tree.all("figure", "chart")) == 2


def test_without_ground_truth_the_gallery_has_no_scores(finished_args, tiny_voc, tmp_path):
    root = shutil.copytree(tiny_voc, tmp_path / "voc", ignore=shutil.ignore_patterns("SegmentationClass"))
    assert main([*finished_args(voc12_root=root, report_images=2), *REPORT]) == 0
    tree = page_of(tmp_path / "report")
    assert ids_of(tree) == [all_ids(tiny_voc)[0], all_ids(tiny_voc)[3]]
    assert "2 of 4 images, spread evenly over the list; no ground truth, so no scores." in tree.text
    assert [option.text for option in tree.all("select")[1].all("option")] == ["as in the list", "by ID"]
    assert any("Run eval_cam; it needs ground truth." in gap for gap in gaps_of(tree))
    first = tree.all("article")[0]
    assert first.attributes["data-iou"] == ",," and "no ground truth" in first.all("div", "missing")[0].text


def test_one_class_only(finished_args, tiny_voc, tmp_path):
    arguments = finished_args()
    data = DataSet(read_config(arguments))
    name = data.class_names[int(data.labels["demo_00000"][0])]
    assert main([*arguments, *REPORT, f"--report_class={name}"]) == 0
    tree = page_of(tmp_path / "report")
    wanted = [i for i in all_ids(tiny_voc) if data.class_names.index(name) in data.labels[i]]
    assert ids_of(tree) == wanted and f"images of class {name}" in tree.text


def test_markup_in_names_stays_text(finished_args, tiny_voc, tmp_path):
    data, ids = DataSet(read_config(finished_args())), all_ids(tiny_voc)
    names = [f"<i>{name}</i> & ü人" for name in data.class_names]
    (tmp_path / "names.txt").write_text("\n".join(names), encoding="utf-8")
    (tmp_path / "labels.txt").write_text("\n".join(f"{i} {' '.join(map(str, data.labels[i]))}" for i in ids))
    own = {"class_names": tmp_path / "names.txt", "cls_labels": tmp_path / "labels.txt"}
    assert main([*finished_args(**own), *only("eval_cam"), "--report_pass"]) == 0
    tree = page_of(tmp_path / "report")
    assert not tree.all("i")
    shown = [item.text for item in tree.all("article")[0].all("ul", "classes")[0].all("li")]
    assert shown == [names[key] for key in data.labels[ids[0]]]


# --- what is refused


def test_nothing_to_report_on(tiny_args, tmp_path, capsys):
    assert "there is nothing to report on" in error_of([*tiny_args(), *REPORT], capsys)
    assert not (tmp_path / "report").exists()


@pytest.mark.slow
def test_what_an_earlier_step_makes_can_be_reported_on(tiny_args, tmp_path):
    arguments = [*tiny_args(), *only("train_cam"), "--report_pass"]
    assert main(arguments) == 0
    assert "train_cam.png" in page_of(tmp_path / "report").text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"report_class": "unicorn"}, "report_class: 'unicorn' is not among the classes of"),
        ({"report_class": "sofa"}, "report_class: no image of"),
        ({"infer_list": "missing.txt"}, "missing.txt: no such list"),
    ],
)
def test_settings_that_cannot_be(change, says, finished_args, capsys):
    assert says in error_of([*finished_args(**change), *REPORT], capsys)


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("sess/cam.pth.history.jsonl", "line 1: not a training history"),
        ("cam_out_dir/eval_cam.json", "not an evaluation"),
        ("cam_out_dir/demo_00000.npy", "not a .npy file"),
        ("sem_seg/demo_00000.png", "1 of 20 files of the gallery unreadable"),
    ],
)
def test_files_that_cannot_be_read(file, says, finished_args, tmp_path, capsys):
    arguments = finished_args()
    (tmp_path / file).write_text("something else\n")
    error = error_of([*arguments, *REPORT], capsys)
    assert str(tmp_path / file) in error and says in error
    assert not (tmp_path / "report" / "index.html").exists()


def test_what_others_made_may_end_as_other_steps_take_it(finished_args, tiny_voc, tmp_path, capsys):
    root = shutil.copytree(tiny_voc, tmp_path / "voc")
    for folder in ("Sal", "SegmentationClass"):
        with open(root / folder / "demo_00000.png", "ab") as file:
            file.write(b"more")
    arguments = [*finished_args(voc12_root=root), *REPORT]
    assert main(arguments) == 0
    assert not page_of(tmp_path / "report").all("article")[0].all("div", "missing")
    (root / "Sal" / "demo_00001.png").write_bytes(b"no image")
    assert "1 of 8 ground truth or saliency maps unreadable" in error_of(arguments, capsys)


def test_labels_that_cannot_be_read_hide_nothing_else(finished_args, tiny_voc, tmp_path, capsys):
    root = shutil.copytree(tiny_voc, tmp_path / "voc", ignore=shutil.ignore_patterns("Annotations"))
    (tmp_path / "sem_seg" / "demo_00000.png").write_text("something else")
    (tmp_path / "names.txt").write_text("one\none\n")
    arguments = [*finished_args(voc12_root=root), *REPORT, "--report_class=cat"]
    error = problems_of([*arguments, f"--class_names={tmp_path / 'names.txt'}"], capsys)
    assert len(error) == 2 and "names.txt" in error[0] and "demo_00000.png" in error[1]
    (tmp_path / "labels.txt").write_text("demo_00000 0\ndemo_00001 1\ndemo_00002 2\n")
    error = problems_of([*arguments, f"--cls_labels={tmp_path / 'labels.txt'}"], capsys)
    assert len(error) == 2 and "1 of 4 image labels unusable" in error[0] and "demo_00000.png" in error[1]


def test_a_list_of_nothing(finished_args, tmp_path, capsys):
    (tmp_path / "empty.txt").write_text("\n")
    assert "the list is empty" in error_of([*finished_args(infer_list=tmp_path / "empty.txt"), *REPORT], capsys)


# --- its parts


def test_the_score_of_an_image_is_the_mean_over_the_labels_that_occur(finished_args, tiny_voc, tmp_path):
    args = read_config(finished_args())
    data = DataSet(args)
    truth = read_label_map(tiny_voc / "SegmentationClass" / "demo_00003.png")
    mask = read_label_map(tmp_path / "sem_seg" / "demo_00003_crf.png")
    known = truth != 255
    iou = []
    for label in set(truth[known].tolist()) | set(mask[known].tolist()):
        one, other = (truth == label) & known, (mask == label) & known
        iou.append((one & other).sum() / (one | other).sum())
    (image,) = DataSet(args).labelled(["demo_00003"])
    assert image_iou(image, "mask + CRF", args=args, data=data) == pytest.approx(np.mean(iou))
    assert image_iou(image, "CAM", args=args, data=data) == 1.0
    (tmp_path / "sem_seg" / "demo_00003.png").unlink()
    assert image_iou(image, "mask", args=args, data=data) is None


def test_panels_in_order_and_of_the_image_s_size(finished_args, tiny_voc):
    args = read_config(finished_args())
    panels = panels_of(*DataSet(args).labelled(["demo_00002"]), args=args, data=DataSet(args))
    with Image.open(tiny_voc / "JPEGImages" / "demo_00002.jpg") as image:
        size = (image.height, image.width, 3)
        np.testing.assert_array_equal(panels[0].picture, np.array(image.convert("RGB")))
    assert {panel.picture.shape for panel in panels} == {size}
    assert (panels[4].picture == (230, 159, 0)).all()  # all of it boundary to the background
    assert not panels[5].picture.any()


def test_ranking_falls_back_to_what_is_there(finished_args, tiny_voc, tmp_path):
    args = read_config(finished_args(report_images=3))
    data, ids = DataSet(args), all_ids(tiny_voc)
    for path in (tmp_path / "sem_seg").glob("*_crf.png"):
        path.unlink()
    gallery = choose(DataSet(args).labelled(ids), args, data)
    assert [image.image_id for image in gallery.shown] == [ids[0], ids[1], ids[3]]  # all equal: by ID
    assert gallery.ranked_by == "mask" and gallery.words.startswith("3 of 4 images")
    assert "by the IoU of mask: the 1 best, the 1 worst and 1 spread between." in gallery.words
    for path in (tmp_path / "sem_seg").glob("*.png"):
        path.unlink()
    assert choose(DataSet(args).labelled(ids), args, data).ranked_by == "CAM"


def test_what_is_void_has_no_score(finished_args, tiny_voc, tmp_path):
    root = shutil.copytree(tiny_voc, tmp_path / "voc")
    with Image.open(root / "SegmentationClass" / "demo_00000.png") as truth:
        Image.new("L", truth.size, 255).save(root / "SegmentationClass" / "demo_00000.png")
    args = read_config(finished_args(voc12_root=root))
    data = DataSet(args)
    images = DataSet(args).labelled(all_ids(tiny_voc))
    assert image_iou(images[0], "mask", args=args, data=data) is None
    assert [image.image_id for image in choose(images, args, data).shown] == all_ids(tiny_voc)[1:]


@given(st.integers(0, 200), st.integers(1, 100))
def test_best_worst_and_between(n, most):
    places = best_worst_and_between(n, most)
    assert len(places) == min(n, most)
    assert places == sorted(set(places)) and all(0 <= place < n for place in places)
    third = min(n, most) // 3
    assert places[:third] == list(range(third)) and places[len(places) - third :] == list(range(n - third, n))


def test_the_rest_is_spread():
    assert best_worst_and_between(100, 6) == [0, 1, 2, 97, 98, 99]
    assert best_worst_and_between(100, 9) == [0, 1, 2, 3, 49, 96, 97, 98, 99]
    assert best_worst_and_between(101, 1) == [50]
    assert evenly(10, 20, 2) == [10, 19]


def test_the_choice_in_words():
    assert words_of_choice(3, 3) == "all"
    assert best_worst_and_between(9, 1) == [4] and words_of_choice(9, 1) == "the one in the middle"
    assert best_worst_and_between(9, 2) == [0, 8] and words_of_choice(9, 2) == "the best and the worst"
    assert words_of_choice(100, 8) == "the 2 best, the 2 worst and 4 spread between"


@pytest.mark.slow
def test_threshold_curves_are_those_of_the_evaluations(finished_args, tmp_path):
    thresholds = tmp_path / "report" / "thresholds.png"
    assert main([*finished_args(), *only("eval_sem_seg"), "--report_pass"]) == 0  # there are no scores to sweep
    assert any(gap.startswith("Threshold curves") for gap in gaps_of(page_of(tmp_path / "report")))
    assert not thresholds.exists()
    assert main([*finished_args(), *only("eval_cam"), "--report_pass"]) == 0
    assert not gaps_of(page_of(tmp_path / "report")) and thresholds.exists()


def test_cams_of_another_method_are_shown_as_well(finished_args, tmp_path):
    args = read_config(finished_args())
    (image,), data = DataSet(args).labelled(["demo_00003"]), DataSet(args)
    before = panels_of(image, args=args, data=data)[2]
    path = tmp_path / "cam_out_dir" / "demo_00003.npy"
    maps = np.load(path, allow_pickle=True).item()
    np.save(path, {int(key): cam for key, cam in zip(maps["keys"], maps["high_res"], strict=True)})
    np.testing.assert_array_equal(panels_of(image, args=args, data=data)[2].picture, before.picture)
    assert image_iou(image, "CAM", args=args, data=data) == 1.0
