# What people and CI run. Everything happens in .venv, which is made anew when requirements.lock
# changes; nothing outside this folder is touched.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
TORCH := 2.13.0
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.PHONY: quickstart test soak check docs lock clean

ifeq ($(TEXTMILL_QUICKSTART),hub)
QUICKSTART := recipes/quickstart-hub.toml
CORPUS := recipes/quickstart_hub.py runs/quickstart-hub/tasks
else
QUICKSTART := recipes/quickstart.toml
CORPUS := recipes/quickstart_corpus.py runs/quickstart/corpus
endif

quickstart: $(STAMP)
	$(BIN)/python $(CORPUS)
	$(BIN)/textmill run $(QUICKSTART)

test: check
	$(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=loadfile \
		--no-loadscope-reorder --durations=20 --durations-min=20

# The long set of faults: whole grids of what `make test` takes samples of. How each case ended is
# kept in tests/faults/soak.json.
soak: $(STAMP)
	$(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 -m soak -p tests.soak_record \
		tests/data_prep tests/faults tests/launch

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# docs/recipe.md and docs/recipe.schema.json, from the models and the comments of their fields.
docs: $(STAMP)
	$(BIN)/python -m runtime.schema docs/

# What the extra `tflite` adds lies in a folder of its own, which its tests put on PYTHONPATH: one of
# its packages (torchao) is imported by transformers wherever it is found, and complains at length.
# The stamp holds a copy of the lock it was made from: a newer file date alone (git checkout) is no
# reason to install again.
$(STAMP): requirements.lock requirements-tflite.lock setup.py
	@if [ -f $(STAMP) ] && cat requirements.lock requirements-tflite.lock setup.py | cmp -s - $(STAMP); then \
		touch $(STAMP); \
	else \
		set -x; \
		[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv; \
		$(BIN)/python -m pip install --quiet --requirement requirements.lock; \
		$(BIN)/python -m pip install --quiet --no-deps --editable .; \
		rm -rf .venv/tflite; \
		$(BIN)/python -m pip install --quiet --no-deps --target .venv/tflite \
			--requirement requirements-tflite.lock; \
		cat requirements.lock requirements-tflite.lock setup.py > $(STAMP); \
	fi

# Every version that an installation of today would get, tested together. torch is named exactly:
# a range may choose a build for another kind of machine.
lock:
	set -x; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(PYTHON) -m venv "$$folder/venv"; \
	"$$folder/venv/bin/python" -m pip install --quiet torch==$(TORCH) \
		--editable '.[search,onnx,ray,s3,test]'; \
	"$$folder/venv/bin/python" -m pip freeze --exclude-editable \
		| sed -E 's/\+[a-z0-9.]+$$//' > "$$folder/lock"; \
	"$$folder/venv/bin/python" -m pip install --quiet torch==$(TORCH) --editable '.[tflite]'; \
	"$$folder/venv/bin/python" -m pip freeze --exclude-editable \
		| sed -E 's/\+[a-z0-9.]+$$//' > "$$folder/all"; \
	cp "$$folder/lock" requirements.lock; \
	sed 's/==.*/==/; s/^/^/' "$$folder/lock" > "$$folder/names"; \
	grep --invert-match --file "$$folder/names" "$$folder/all" \
		> requirements-tflite.lock

clean:
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
