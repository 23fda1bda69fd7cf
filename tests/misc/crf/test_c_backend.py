"""dense_crf.c: threads, too little memory, sanitizers."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from misc.crf import c_backend
from misc.crf.dense_crf import DenseCRF
from misc.crf.lattice import packing
from tests.conftest import PROJECT

DRIVER = Path(__file__).with_name("dense_crf_driver.c")

pytestmark = pytest.mark.skipif(not c_backend.available(), reason="no C compiler")


def test_threads_get_the_same_as_one():
    """Several sizes, so that lattices of positions are made, kept and dropped meanwhile; one CRF shared by all."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 99, (40 + i % 7, 61, 3), dtype=np.uint8) for i in range(24)]
    maps = [rng.integers(0, 4, image.shape[:2]) for image in images]
    shared = DenseCRF(images[0], 4, sxy=20, backend="c")
    energies = rng.normal(size=(4, *shared.shape)).astype(np.float32)

    def work(i: int) -> bytes:
        refined = DenseCRF(images[i], 4, sxy=20, backend="c").refine(maps[i])
        return refined.tobytes() + shared.marginals(energies).tobytes()

    alone = [work(i) for i in range(len(images))]
    c_backend._kept_lattice.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(len(images)))) == alone


SHORT_OF_MEMORY = """
import resource
import numpy as np
from misc.crf.dense_crf import DenseCRF
image = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
small = DenseCRF(image[:30, :40], 200, sxy=20, backend="c")
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 50_000_000, -1))
for attempt in lambda: DenseCRF(image, 2, sxy=20, backend="c"), lambda: small.refine(np.zeros((40, 30, 40), int)):
    try:
        attempt()
    except MemoryError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of address space, and /proc")
def test_too_little_memory():
    done = subprocess.run([sys.executable, "-c", SHORT_OF_MEMORY], cwd=PROJECT, capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "not enough memory for the lattice of a dense CRF",
        "not enough memory for a dense CRF",
    ], done.stderr


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """dense_crf_driver.c, compiled with the sanitizers of addresses, leaks and undefined behaviour."""
    made = tmp_path_factory.mktemp("sanitizers") / "driver"
    command = [shutil.which("cc"), "-std=c11", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover"]
    command += ["-I", str(c_backend.SOURCE.parent), str(DRIVER), "-o", str(made), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True)
    if "sanitize" in done.stderr or "asan" in done.stderr:
        pytest.skip("no sanitizers")
    assert not done.returncode, done.stderr
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("labels", "maps", "shape"),
    [
        *((labels, 1, (31, 43)) for labels in (2, 3, 4, 5, 6, 21, 22, 81)),
        *((labels, maps, (9, 30)) for labels in (2, 3, 4, 6) for maps in (2, 3)),
        *((labels, 1, shape) for labels in (2, 5, 255) for shape in ((1, 1), (1, 65), (64, 1), (8, 8), (16, 16))),
    ],
)
def test_sanitizers(driver, labels, maps, shape):
    packings = bytes(packing(*shape, sxy=3)) + bytes(packing(*shape, sxy=20, srgb=5))
    command = [str(driver), str(labels), str(maps), *map(str, shape)]
    done = subprocess.run(command, input=packings, capture_output=True, env={"ASAN_OPTIONS": "detect_leaks=1"})
    assert not done.returncode and not done.stderr, (done.returncode, done.stderr.decode()[-3000:])
