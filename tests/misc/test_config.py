"""Settings: where a value comes from, what is refused, and that none of them is dead."""

import dataclasses
import re
from pathlib import Path

import pytest

from misc.config import DATA, FILES, RUN, Config, read_config
from misc.errors import InputError
from run_sample import STEPS

PROJECT = Path(__file__).resolve().parents[2]
FIELDS = {f.name: f for f in dataclasses.fields(Config)}

PUBLISHED = {
    "train_aug_list": "voc12/train_aug.txt",
    "train_list": "voc12/train.txt",
    "val_list": "voc12/val.txt",
    "infer_list": None,
    "chainer_eval_set": "train",
    "seed": 5,
    "cam_crop_size": 512,
    "cam_resize_long": (320, 512),
    "cam_batch_size": 16,
    "cam_num_epoches": 5,
    "cam_learning_rate": 0.1,
    "cam_weight_decay": 1e-4,
    "sgd_momentum": 1e-4,
    "cam_eval_thres": 0.21,
    "cam_scales": (1.0, 0.5, 1.5, 2.0),
    "conf_fg_thres": 0.30,
    "conf_bg_thres": 0.07,
    "window_size": 13,
    "theta_scale": 0.30,
    "theta_diff": 0.10,
    "salbound_thres": 0.5,
    "bes_crop_size": 512,
    "bes_batch_size": 16,
    "bes_num_epoches": 3,
    "bes_learning_rate": 0.1,
    "bes_weight_decay": 1e-4,
    "beta": 5,
    "exp_times": 8,
    "sem_seg_bg_thres": 0.21,
    "train_cam_pass": True,
    "make_cam_pass": True,
    "eval_cam_pass": True,
    "make_boundary_label_pass": True,
    "train_sbe_boundary_pass": True,
    "make_sem_seg_pass": True,
    "eval_sem_seg_pass": True,
    "cam_out_dir": "result/cam",
}
OTHER_PUBLISHED_FLAGS = {
    "voc12_root", "num_workers", "log_name", "cam_weights_name", "bes_weights_name", "cam_vis_dir",
    "boundary_label_dir", "sem_seg_out_dir",
}  # fmt: skip


def yaml(folder: Path, text: str, name: str = "settings.yaml") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return f"--config={folder / name}"


def test_published_values_are_the_defaults():
    config = read_config([])
    assert {name: getattr(config, name) for name in PUBLISHED} == PUBLISHED


def test_every_published_flag_is_there_and_the_dead_ones_are_not():
    assert FIELDS.keys() >= OTHER_PUBLISHED_FLAGS
    assert not {"test_list", "cam_network", "bes_network", "newL"} & FIELDS.keys()


def test_command_line_beats_later_yaml_beats_earlier_yaml_beats_default(tmp_path):
    first = yaml(tmp_path, "seed: 1\nbeta: 1\nexp_times: 1\n", "first.yaml")
    second = yaml(tmp_path, "seed: 2\nbeta: 2\n", "second.yaml")
    for arguments in ([first, second, "--seed", "3"], ["--seed=3", first, "--config", second.partition("=")[2]]):
        config = read_config(arguments)
        assert (config.seed, config.beta, config.exp_times, config.window_size) == (3, 2, 1, 13)


@pytest.mark.parametrize("name", ["make_cam_pass", "amp", "train_bes_pass"])
@pytest.mark.parametrize(
    ("spelling", "value"),
    [
        (["--{}"], True),
        (["--{}", "true"], True),
        (["--{}=true"], True),
        (["--{}", "false"], False),
        (["--{}", "False"], False),
        (["--{}=false"], False),
        (["--no_{}"], False),
        (["--no-{}"], False),
    ],
)
def test_a_switch_has_many_spellings(name, spelling, value):
    config = read_config([part.format(name) for part in spelling])
    assert getattr(config, name.replace("train_bes", "train_sbe_boundary")) is value


def test_hyphens_in_a_negated_switch():
    assert read_config(["--no-train-cam-pass"]).train_cam_pass is False


@pytest.mark.parametrize(
    ("in_yaml", "arguments", "value"),
    [
        ("train_bes_pass: false", [], False),
        ("train_bes_pass: false", ["--train_sbe_boundary_pass"], True),
        ("train_bes_pass: false", ["--train_bes_pass"], True),
        ("train_sbe_boundary_pass: false", ["--train_bes_pass"], True),
        ("train_sbe_boundary_pass: true", ["--no_train_bes_pass"], False),
        ("seed: 1", ["--no_train_bes_pass", "--train_sbe_boundary_pass"], True),
    ],
)
def test_train_bes_pass_is_another_name_of_the_same_switch(tmp_path, in_yaml, arguments, value):
    assert read_config([yaml(tmp_path, in_yaml), *arguments]).train_sbe_boundary_pass is value


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--sede", "4"], "--sede"),
        (["--see", "4"], "--see"),  # no abbreviations: a new setting would change what they mean
        (["--no_seed"], "--no_seed"),
        (["stray"], "stray"),
        (["--seed"], "seed"),
        (["--seed", "five"], "seed"),
        (["--seed", "5.5"], "seed"),
        (["--seed", "true"], "seed"),
        (["--seed", "-1"], "seed"),
        (["--beta", "nan"], "beta"),
        (["--beta", "-0.1"], "beta"),
        (["--make_cam_pass", "banana"], "make_cam_pass"),
        (["--method", "irn"], "method"),
        (["--conf_fg_thres", "1.01"], "conf_fg_thres"),
        (["--window_size", "12"], "window_size"),
        (["--cam_batch_size", "0"], "cam_batch_size"),
        (["--cam_scales", "[]"], "cam_scales"),
        (["--cam_scales", "[1, 0]"], "cam_scales"),
        (["--cam_resize_long", "[512, 320]"], "cam_resize_long"),
        (["--cam_resize_long", "[320]"], "cam_resize_long"),
        (["--num_workers", "-1"], "num_workers"),
        (["--num_workers", "x"], "num_workers"),
        (["--demo_side", "63"], "demo_side"),
        (["--config", "no/such.yaml"], "no/such.yaml"),
        (["--config", "."], "there is no file '.'"),
        (["--config"], "config"),
        (["--cam_out_dri", "x"], "did you mean --cam_out_dir?"),
        (["--no_make_saliencypass"], "did you mean --no_make_saliency_pass?"),
        (["--saliency_mean", "[0.5, 1.0]"], 'a list of 3 numbers in brackets, such as "[0.5, 1.0, 0.5]"'),
    ],
)
def test_refused_by_name_on_the_command_line(arguments, named):
    with pytest.raises(InputError, match=re.escape(named)) as error:
        read_config(arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("sede: 4", r"'sede' \(did you mean seed\?\)"),
        ("see: 4", "see"),
        ("seed: five", "seed"),
        ("seed: true", "seed"),
        ("seed: null", "seed"),
        ("voc12_root: null", "voc12_root"),
        ("cam_scales: null", "cam_scales"),
        ("make_cam_pass: null", "make_cam_pass"),
        ("beta: .nan", "beta"),
        ("salbound_thres: .inf", "salbound_thres"),
        ("cam_scales: [1, .nan]", "cam_scales"),
        ("cam_scales: [1, a]", "cam_scales"),
        ("make_cam_pass: 3", "make_cam_pass"),
        ("cam_out_dir: [a]", "cam_out_dir"),
        ("saliency_dir: [a]", "saliency_dir"),
        ("conf_bg_thres: -1", "conf_bg_thres"),
        ("seed: [1", "settings.yaml, line"),
        ("- seed", "settings.yaml"),
    ],
)
def test_refused_by_name_in_yaml(tmp_path, text, named):
    with pytest.raises(InputError, match=named) as error:
        read_config([yaml(tmp_path, text)])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("deeplab_depth", "7", "50 or 101"),
        ("method", "irn", "sbe or bes"),
        ("saliency_preset", "u3net", "u2net, basnet"),
        ("voc_submission", "x", "comp5 or comp6"),
        ("seed", "five", "a whole number"),
        ("num_workers", "[1]", "a whole number"),
        ("beta", "x", "a number"),
        ("amp", "3", "true or false"),
        ("train_deeplab_pass", "3", "true or false"),
        ("cam_resize_long", "[3]", "2 whole numbers in brackets"),
        ("cam_scales", "x", 'numbers in brackets, such as "[0.5, 1.0]"'),
        ("saliency_mean", "[1, 2]", "3 numbers in brackets"),
    ],
)
def test_a_value_of_a_wrong_kind_is_told_with_those_that_are_right(tmp_path, name, value, allowed):
    for arguments in ([f"--{name}={value}"], [yaml(tmp_path, f"{name}: {value}")]):
        with pytest.raises(InputError) as error:
            read_config(arguments)
        text = str(error.value)
        assert text.startswith(f"{name}: ") and value in text and allowed in text
        assert not re.search("typing|class|tuple|Union|Literal|NoneType|Parser", text)


@pytest.mark.parametrize("name", ["seed", "voc12_root", "cam_scales", "train_bes_pass", "deeplab_depth"])
@pytest.mark.parametrize("rest", ["", "beta: 3\n"])
def test_a_name_without_a_value(tmp_path, name, rest):
    with pytest.raises(InputError, match=rf"settings\.yaml: {name} has no value"):
        read_config([yaml(tmp_path, f"{name}:\n{rest}")])


def test_a_name_without_a_value_takes_back_what_an_earlier_file_says(tmp_path):
    first = yaml(tmp_path, "infer_list: mine.txt\nnum_workers: 3\n", "first.yaml")
    config = read_config([first, yaml(tmp_path, "infer_list:\n")])
    assert config.infer_list is None and config.num_workers == 3


@pytest.mark.parametrize("text", ["infer_list: null\nnum_workers: null\n", "infer_list:\n", "infer_list:\nbeta: 5\n"])
def test_null_stands_for_the_default_where_that_is_none(tmp_path, text):
    config = read_config([yaml(tmp_path, text)])
    assert config.infer_list is None and config.num_workers is None
    assert config.infer_list_or_default == config.train_list
    assert config.workers >= 1


def test_infer_list_and_workers_as_given():
    config = read_config(["--infer_list", "mine.txt", "--num_workers", "0"])
    assert (config.infer_list_or_default, config.workers) == ("mine.txt", 0)


def test_whole_numbers_serve_as_floats_and_lists_as_scales(tmp_path):
    config = read_config([yaml(tmp_path, "cam_scales: [1, 2]"), "--beta", "7"])
    assert config.cam_scales == (1.0, 2.0) and config.beta == 7.0


@pytest.mark.parametrize("path", sorted((PROJECT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_configs_load(path):
    assert read_config(["--config", str(path)])


def test_the_published_baseline_and_the_published_defaults():
    sbe = read_config([f"--config={PROJECT}/configs/voc12_sbe.yaml"])
    assert sbe == Config()
    bes = read_config([f"--config={PROJECT}/configs/voc12_bes.yaml"])
    changed = {name for name in FIELDS if getattr(bes, name) != getattr(sbe, name)}
    # what depends on the method goes to places of its own, the CAMs are those of both
    places = {"cam_vis_dir", "boundary_label_dir", "bes_weights_name", "sem_seg_out_dir", "report_dir"}
    assert changed == {"method", "cam_eval_thres", "sem_seg_bg_thres"} | places
    assert (bes.cam_eval_thres, bes.sem_seg_bg_thres, bes.uses_saliency, sbe.uses_saliency) == (0.11, 0.25, False, True)


def test_the_settings_of_coco():
    """What others publish for IRN on COCO 2014 (ReCAM) and for a DeepLab-v2 on its masks (LPCAM)."""
    coco = read_config([f"--config={PROJECT}/configs/coco14_sbe.yaml"])
    published = {
        "cam_num_epoches": 5, "cam_learning_rate": 0.1, "bes_num_epoches": 3, "cam_eval_thres": 0.15,
        "conf_fg_thres": 0.35, "conf_bg_thres": 0.1, "beta": 10, "sem_seg_bg_thres": 0.25, "deeplab_steps": 100_000,
        "deeplab_learning_rate": 2e-4, "deeplab_batch_size": 10, "deeplab_iter_size": 2, "deeplab_crop_size": 321,
        "deeplab_backbone_weights": "imagenet", "deeplab_eval_set": "val", "chainer_eval_set": "train",
        "cam_file": "compact", "method": "sbe",
    }  # fmt: skip
    assert {name: getattr(coco, name) for name in published} == published
    assert coco.train_deeplab_pass and coco.deeplab_infer_list_or_default == coco.val_list
    assert coco.infer_list_or_default == coco.train_aug_list  # DeepLab learns from masks of all its images
    voc = Config(voc12_root="VOC2012")
    written = [name for name in FIELDS if FIELDS[name].metadata["of"] == ("files",) and name not in ("backbone_out",)]
    shared = {name for name in written if getattr(coco, name) == getattr(voc, name)}
    assert shared == {"save_scores"}  # no place, and off


def test_no_setting_is_dead():
    """Every field is read outside the module, as itself or through a property of the settings."""
    sources = [path for folder in ("misc", "net", "step", "voc12") for path in (PROJECT / folder).rglob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources if path.name != "config.py")
    own = (PROJECT / "misc" / "config.py").read_text(encoding="utf-8")
    through = {  # field: the property that reads it
        field: name
        for name, body in re.findall(r"@property\n    def (\w+)\(.*?\n(.*?)(?=\n\n)", own, re.S)
        for field in re.findall(r"self\.(\w+)", body)
    }
    read = set(re.findall(r"args\.(\w+)", code))
    switches = {f"{step.name}_pass" for step in STEPS} | {"deeplab"}  # which is three of them
    assert not {name for name in FIELDS if name not in read | switches and through.get(name) not in read}


def test_every_setting_names_its_steps_or_what_it_is_of():
    steps = {step.name for step in STEPS}
    for name, f in FIELDS.items():
        of = f.metadata["of"]
        assert len(of) == 1 if set(of) & {DATA, FILES, RUN} else of and set(of) <= steps, name


def test_the_settings_of_a_step():
    """What a manifest of make_cam holds: nothing that names a place, nothing of another step."""
    others = {"cam_file": "published", "amp": True, "tf32": True, "deterministic": False}
    assert Config(cam_scales=(1.0, 0.5), amp=True).of("make_cam") == {"cam_scales": (1.0, 0.5)} | others


@pytest.mark.parametrize("content", ["", "# only a comment\n# seed: 3\n", "---\n"])
def test_yaml_that_sets_nothing(tmp_path, content):
    (tmp_path / "empty.yaml").write_text(content)
    assert read_config(["--config", str(tmp_path / "empty.yaml"), "--seed=3"]) == read_config(["--seed=3"])
    assert read_config([f"--config={tmp_path / 'empty.yaml'}"]) == read_config([])


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"a: &a [*a]", b"- seed", b"seed", b"nonsense: 1", b"seed: [", b"seed: 1: 2"]
)
def test_yaml_that_is_no_settings_is_named(tmp_path, content):
    (tmp_path / "bad.yaml").write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.yaml") as error:
        read_config(["--config", str(tmp_path / "bad.yaml")])
    assert len(str(error.value).splitlines()) == 1


def test_the_settings_of_a_conversion_that_has_not_ended(tmp_path):
    (tmp_path / "conversion.json").touch()
    with pytest.raises(InputError, match="has not ended, run it again"):
        read_config(["--config", str(tmp_path / "set.yaml")])
    with pytest.raises(InputError, match=r"there is no file '.*sett\.yaml'$"):
        read_config(["--config", str(tmp_path / "sett.yaml")])
