# Try `make help`.
.PHONY: setup build test check
setup:
	@scripts/setup.sh
build: setup
	cargo rustc --release --lib --crate-type cdylib
	@ln -sfn ../../.deps/lib target/release/vx
test: build
	VX_PLUGIN_DIR=$(CURDIR)/target/release cargo test
check:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps
