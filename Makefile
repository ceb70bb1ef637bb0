# The commands of this repository. Each is one of `cargo xtask`, which explains itself with --help.

# Build output lies outside the checkout, so that a fresh clone on the same machine starts warm.
XDG_CACHE_HOME ?= $(HOME)/.cache
CARGO_TARGET_DIR ?= $(XDG_CACHE_HOME)/strongroom/target
export CARGO_TARGET_DIR

XTASK := cargo run --locked --package strongroom-hack --

.PHONY: setup check test test-long demo demo-down bench

setup check test test-long demo demo-down bench:
	$(XTASK) $@
