"""Which device a process takes, what is said of it, and what it does with memory."""

import logging
import platform
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from misc.errors import InputError
from misc.run import device as module
from misc.run.device import (
    Place,
    check_device,
    check_places,
    convolutions_tried_out,
    describe,
    fault_of,
    keep_within_quota,
    loading_threads,
    log_device,
    pick_device,
    use_device,
)
from voc12.image_set import PROJECT

CPU, CARD = torch.device("cpu"), torch.device("cuda:0")
NO_KERNEL = """CUDA error: no kernel image is available for execution on the device
CUDA kernel errors might be asynchronously reported at some other API call"""


@pytest.fixture
def machine(monkeypatch, tmp_path) -> Callable[..., None]:
    """machine((7, 5), (8, 6), build="13.0"): cards of these capabilities, as far as torch.cuda says.

    build     the CUDA that torch is built for, None for a torch for CPUs
    driver    of the cards; where torch sees none of them, a device file may be there all the same: file=True
    """

    def pretend(*cards: tuple[int, int], build="13.0", driver="580.95.05", file=False) -> None:
        properties = [
            SimpleNamespace(name=f"Card {n}", major=a, minor=b, total_memory=24 * 2**30, uuid=f"GPU-{n}")
            for n, (a, b) in enumerate(cards)
        ]
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cards))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties[device.index])
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80"])
        monkeypatch.setattr(torch.version, "cuda", build)
        monkeypatch.setattr(module, "CARD_FILES", (str(tmp_path / "nvidia[0-9]*"),))
        monkeypatch.setattr(module, "DRIVER", tmp_path / "version")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if cards or file:
            (tmp_path / "nvidia0").touch()
            kernel = (
                f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {driver}  Release Build\nGCC version: 13.2.0"
            )
            (tmp_path / "version").write_text(kernel)

    return pretend


@pytest.fixture
def convolutions(monkeypatch) -> Callable[..., list[torch.dtype]]:
    """Small convolutions "on CUDA" are computed on the CPU, and raise in some types: convolutions({dtype: error})."""

    def pretend(errors: dict[torch.dtype, Exception]) -> list[torch.dtype]:
        computed: list[torch.dtype] = []
        ones, conv2d = torch.ones, F.conv2d

        def convolve(x, weight):
            computed.append(x.dtype)
            if x.dtype in errors:
                raise errors[x.dtype]
            return conv2d(x, weight)

        monkeypatch.setattr(torch, "ones", lambda *size, dtype, device: ones(*size, dtype=dtype))
        monkeypatch.setattr(F, "conv2d", convolve)
        return computed

    return pretend


def test_each_process_of_torchrun_takes_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda:0")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda:1")
    with pytest.raises(InputError, match="one device for several processes: say cuda"):
        pick_device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError, match="torch sees 2 CUDA devices"):
        pick_device("cuda")
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_memory_is_used_again():
    program = """
import resource, torch
from misc.run.device import keep_freed_memory
keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(64 * 2**18)  # 64 MiB, 16384 pages
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    output = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    # a block may be moved before it finds its place
    assert int(output.stdout) < 8 * 16384


def test_a_card_gets_more_loading_threads_than_a_cpu_and_no_hundred(monkeypatch):
    monkeypatch.setattr(module, "available_cores", lambda: 64)
    assert [loading_threads(workers, CARD) for workers in (0, 4, 200)] == [0, 4, 16]
    assert [loading_threads(workers, CPU) for workers in (0, 1, 200)] == [0, 1, 2]


def test_torch_has_no_more_threads_than_the_process_has_cores(monkeypatch):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(6)
        monkeypatch.setattr(module, "available_cores", lambda: 8)
        keep_within_quota()
        assert torch.get_num_threads() == 6  # as OMP_NUM_THREADS may say
        monkeypatch.setattr(module, "available_cores", lambda: 3)
        keep_within_quota()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_the_log_says_where_a_run_computes(machine, caplog):
    caplog.set_level(logging.INFO)
    machine((8, 6))
    log_device("auto", CARD)
    for said in ("cuda:0", "Card 0", "8.6", "24.0 GiB", "580.95.05", torch.__version__, "CUDA 13.0", "TF32"):
        assert said in caplog.text
    caplog.clear()
    log_device("auto", CARD, tf32=False)
    assert "TF32" not in caplog.text
    machine((7, 5))
    log_device("auto", CARD)
    assert "7.5" in caplog.text and "TF32" not in caplog.text  # it has none
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@pytest.mark.parametrize(
    ("build", "file", "said"),
    [
        ("13.0", True, ("nvidia0", "driver 470.57.02", "CUDA 13.0", "newer driver")),
        ("13.0", False, ("there is no card",)),
        (None, True, ("nvidia0", "built for CPUs", "install one for CUDA")),
        (None, False, ()),
    ],
)
def test_auto_that_is_a_cpu_warns_where_a_card_could_be_expected(build, file, said, machine, caplog):
    machine(build=build, driver="470.57.02", file=file)
    device = pick_device("auto")
    assert device == CPU
    caplog.set_level(logging.WARNING)
    log_device("cpu", device)
    assert not caplog.records  # it is what the user asked for
    log_device("auto", device)
    assert bool(said) == bool(caplog.records)
    for words in (*said, *(["--device cpu"] if said else [])):
        assert words in caplog.text
    with pytest.raises(InputError, match="torch sees 0 CUDA devices") as refused:
        pick_device("cuda")
    assert all(words in str(refused.value) for words in said)


def test_a_card_that_the_environment_hides(machine, monkeypatch, caplog):
    machine(file=True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    log_device("auto", CPU)
    assert "CUDA_VISIBLE_DEVICES is ''" in caplog.text


def test_a_small_convolution_is_tried_in_each_type_that_is_needed(machine, convolutions):
    machine((8, 6))
    computed = convolutions({})
    assert fault_of(CARD, amp=False) is None and computed == [torch.float32]
    assert fault_of(CARD, amp=True) is None and computed[1:] == [torch.float32, torch.bfloat16]


def test_a_card_without_bfloat16_is_refused_for_amp_alone(machine, convolutions):
    """Which torch would emulate."""
    machine((8, 6), (7, 5))
    convolutions({})
    check_device(torch.device("cuda:0"), amp=True)
    check_device(torch.device("cuda:1"), amp=False)
    with pytest.raises(InputError, match=r"amp: cuda:1: Card 1.* 7\.5.* no bfloat16 .*: leave it off"):
        check_device(torch.device("cuda:1"), amp=True)


@pytest.mark.parametrize("amp", [False, True])
def test_amp_asks_what_a_cpu_can(amp, monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False, raising=False)
    assert (fault_of(CPU, amp=amp) is not None) == amp


@pytest.mark.parametrize(
    ("dtype", "error", "said"),
    [
        (torch.float32, RuntimeError(NO_KERNEL), ("float32", "no kernel image", "sm_75, sm_80", "install a PyTorch")),
        (torch.bfloat16, RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"), ("bfloat16", "CUDNN_STATUS")),
        (torch.float32, torch.OutOfMemoryError("CUDA out of memory."), ("nvidia-smi", "another card")),
    ],
)
def test_a_small_convolution_that_fails_is_told_in_one_line(dtype, error, said, machine, convolutions):
    machine((8, 6))
    convolutions({dtype: error})
    fault = fault_of(CARD, amp=True)
    assert all(words in fault for words in (*said, "Card 0", "--device cpu")) and len(fault.splitlines()) == 1


@pytest.fixture
def kept_settings(monkeypatch):
    """torch's settings of precision, put back."""
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    yield
    torch.backends.cudnn.allow_tf32 = True
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True


@pytest.mark.parametrize("tf32", [True, False])
def test_precision_of_convolutions(tf32, kept_settings):
    use_device(CARD, tf32=not tf32)
    use_device(CARD, tf32=tf32)
    assert torch.backends.cudnn.allow_tf32 == tf32
    if hasattr(torch.backends.cudnn, "conv"):  # as newer versions of torch tell it
        assert (torch.backends.cudnn.conv.fp32_precision == "tf32") == tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_deterministic_or_not(kept_settings, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    use_device(CARD, deterministic=True)
    assert torch.are_deterministic_algorithms_enabled() and torch.is_deterministic_algorithms_warn_only_enabled()
    assert module.os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    use_device(CARD, deterministic=False)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_process_takes_its_card_also_where_its_number_is_not_given(monkeypatch, kept_settings):
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    use_device(torch.device("cuda:1"))
    use_device(CPU)
    assert taken == [torch.device("cuda:1")]


def test_processes_of_one_kind_each_with_its_card(machine, convolutions, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    machine((8, 0), (8, 0))
    convolutions({})
    first, second = (Place.of(torch.device("cuda", n), amp=True) for n in range(2))
    check_places([first, second])
    assert "process 0: " in caplog.text and describe(torch.device("cuda:1")) in caplog.text
    elsewhere = second._replace(machine="node2", card=first.card)  # a torch that knows no card by name
    check_places([first._replace(machine="node1"), elsewhere])
    with pytest.raises(InputError, match=r"processes 0 and 2 share a card.*: start one process a card"):
        check_places([first, second, first])
    on_cpu = Place.of(CPU, amp=False)
    check_places([on_cpu, on_cpu])
    with pytest.raises(
        InputError, match=r"processes 1 \(.*\) compute on a CPU, the others on cards: say --device cuda"
    ):
        check_places([first, on_cpu])
    with pytest.raises(InputError, match=r"process 1 \(.*\): no bfloat16"):
        check_places([first, second._replace(fault="no bfloat16")])


@pytest.mark.parametrize(
    ("kind", "deterministic", "tried"), [("cuda", False, True), ("cuda", True, False), ("cpu", False, False)]
)
def test_convolutions_are_tried_out_on_a_card_unless_a_run_is_to_be_repeated(kind, deterministic, tried, kept_settings):
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    with pytest.raises(ValueError), convolutions_tried_out(torch.device(kind)):
        assert torch.backends.cudnn.benchmark is tried
        raise ValueError
    assert torch.backends.cudnn.benchmark is False


@pytest.mark.parametrize(
    ("workers", "cores", "loading", "beside"),
    [(16, 16, 15, 15), (2, 16, 2, 2), (1, 1, 1, 1), (0, 8, 0, 0), (64, 64, 16, 63)],
)
def test_a_core_is_left_to_the_thread_that_feeds_a_card(workers, cores, loading, beside, monkeypatch):
    monkeypatch.setattr(module, "available_cores", lambda: cores)
    assert (loading_threads(workers, CARD), module.workers_beside_network(workers, CARD)) == (loading, beside)
