# make demo      the whole chain on a small generated set, in minutes on two CPU cores
# make test      ruff, mypy and the fast tests, under four minutes on two CPU cores; CI runs it
# make test-all  ruff, mypy and all tests: full disks, kills, several processes, large inputs, Chromium as well
# make coverage  the share of the lines that the fast tests run; fails below 90 %
# make soak      the tests of kills and of damaged files with large numbers, about half an hour
# make bench     our steps against the published way of computing the same, about an hour on two cores
# make gpu-check  on a machine with a card: golden tests, differences from a CPU, times; a page, in under ten minutes
# All make .venv if it is not there. Another Python: make test PYTHON=python3.13

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all coverage soak bench gpu-check clean

demo: .venv/demo-ready
	$(BIN)/python run_sample.py --config configs/demo.yaml

# two at a time, each with one thread: most tests are too small for more
test: TESTS := -m "not slow" -n 2 --dist worksteal
test: export OMP_NUM_THREADS := 1
test test-all: .venv/test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/python -m pytest -q $(TESTS)

coverage: .venv/test-ready
	$(BIN)/python -m coverage run -m pytest -q -m "not slow"
	$(BIN)/python -m coverage combine -q && $(BIN)/python -m coverage report

soak: .venv/test-ready
	$(BIN)/python -m pytest --soak -rP -k "kills or damaged" tests/test_interruption.py tests/test_fuzz.py tests/step/test_deeplab.py

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1): make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/demo-ready: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

.venv/test-ready: requirements-dev.txt requirements-coco.txt requirements-onnx.txt requirements-pydensecrf.txt .venv/demo-ready
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

bench: .venv/demo-ready
	$(BIN)/python -m benchmarks.run

gpu-check: .venv/test-ready
	$(BIN)/python -m benchmarks.gpu_check

clean:
	rm -rf .venv result/demo .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis
