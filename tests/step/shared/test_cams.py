"""What CAMs of two readings lead to, and which CAMs are looked at."""

from collections import Counter

import pytest

from misc.config import Config
from misc.errors import InputError
from misc.formats.cam_formats import says_format
from step.shared.cams import log_cams


@pytest.mark.parametrize("first", [True, False])
def test_two_readings_end_every_process_and_one_says_why(tmp_path, monkeypatch, first):
    monkeypatch.setattr("step.shared.cams.is_first", lambda: first)
    made = tmp_path / "a.png"
    made.touch()
    seen = Counter({says_format("classes"): 2, says_format("crf"): 1})
    with pytest.raises(InputError if first else SystemExit):
        log_cams(Config(cam_out_dir="cams"), seen, made=[made, tmp_path / "never made.png"])
    assert not made.exists()


@pytest.mark.parametrize("formats", [[], ["crf"], ["classes", "sbe"], ["crf", "clip-es"]])
def test_formats_that_do_not_look_alike_end_nothing(tmp_path, formats):
    made = tmp_path / "a.png"
    made.touch()
    log_cams(Config(), Counter(map(says_format, formats)), made=[made])
    assert made.exists()
