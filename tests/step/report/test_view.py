"""One image's row from the command line."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from step.report.view import main
from tests.conftest import PROJECT


def error_of(arguments: list[str], capsys) -> str:
    capsys.readouterr()
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith("error: ") and output.err.count("\n") == 1
    return output.err


def test_it_draws_the_row_and_says_where(finished_args, tmp_path, capsys):
    assert main(["demo_00001", *finished_args()]) == 0
    path = tmp_path / "report" / "view" / "demo_00001.png"
    assert capsys.readouterr().out.strip() == str(path)
    with Image.open(path) as image:
        assert image.width > 1500 and len(np.unique(np.array(image))) > 50
    assert main(["demo_00001", "--out", str(tmp_path / "a.png"), *finished_args()]) == 0
    assert (tmp_path / "a.png").read_bytes() == path.read_bytes()


def test_what_is_missing_leaves_its_place(finished_args, tmp_path):
    (tmp_path / "sem_seg" / "demo_00001.png").unlink()
    (tmp_path / "boundary_label_dir" / "demo_00001.png").unlink()
    assert main(["demo_00001", *finished_args()]) == 0


@pytest.mark.slow
def test_through_the_interpreter(finished_args, tmp_path):
    command = [sys.executable, "-m", "step.report.view", "demo_00000", *finished_args()]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == str(tmp_path / "report" / "view" / "demo_00000.png")


def test_help_is_quick_and_says_how(capsys):
    assert main(["--help"]) == 0
    assert "python -m step.report.view ID" in capsys.readouterr().out
    script = "import sys, step.report.view; assert not {'torch', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=PROJECT, check=True, timeout=60)


@pytest.mark.parametrize(
    ("image_id", "says"),
    [
        ("demo_99999", "there is no image demo_99999: expected it at"),
        ("demo_00000.jpg", "IDs, that is file names without their ending"),
        ("../demo_00000", "is not an image ID"),
        ("", "which image?"),
        (".", "is not an image ID"),
    ],
)
def test_an_id_that_does_not_exist(image_id, says, finished_args, capsys):
    assert says in error_of([image_id, *finished_args()], capsys)


def test_an_image_nothing_was_made_of(tiny_args, capsys):
    assert "nothing has been made of demo_00000 yet: run make_cam" in error_of(["demo_00000", *tiny_args()], capsys)


def test_other_bad_input(finished_args, tmp_path, capsys):
    assert "which image?" in error_of([], capsys)
    assert "which image?" in error_of(finished_args(), capsys)
    assert "voc12_root is not set" in error_of(["demo_00000"], capsys)
    assert "nonsense" in error_of(["demo_00000", "--nonsense", "3"], capsys)
    assert "--out" in error_of(["demo_00000", *finished_args(), "--out"], capsys)
    assert "--out: it is empty" in error_of(["demo_00000", *finished_args(), "--out="], capsys)
    for name in ("a.jpg", "folder/", ".png", "png"):
        error = error_of(["demo_00000", *finished_args(), f"--out={tmp_path}/{name}"], capsys)
        assert f"has to end in .png, not '{tmp_path}/{name}'" in error
    (tmp_path / "file").touch()
    assert "cannot write" in error_of(["demo_00000", f"--out={tmp_path}/file/a.png", *finished_args()], capsys)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("cam_out_dir/demo_00000.npy", b"no CAM", "cannot be read as a CAM file"),
        ("boundary_label_dir/demo_00000.png", Image.new("L", (8, 8), 77), "it holds 77, which is no boundary label"),
        ("sem_seg/demo_00000_edge.png", Image.new("L", (3, 3)), "made for another image size"),
        ("sem_seg/demo_00000.png", Image.new("L", (3, 3)), "differ in size"),
        ("sem_seg/demo_00000_crf.png", b"no image", "cannot be read as an image"),
        ("sem_seg/demo_00000_crf.png", 99, "holds label 99"),
    ],
)
def test_a_file_that_cannot_be_is_named(file, content, says, finished_args, tmp_path, capsys):
    path, arguments = tmp_path / file, finished_args()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, int):
        with Image.open(path) as image:
            size = image.size
        Image.new("L", size, content).save(path)
    else:
        content.save(path)
    error = error_of(["demo_00000", *arguments], capsys)
    assert str(path) in error and says in error
