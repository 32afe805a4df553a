# Entry points. Everything real is done by cargo and by the scripts in tests/.
#
#   make                build libzonal.so and the command zonal
#   make run            run a real program on zonal; CMD='...' chooses another one
#   make test           everything that continuous integration checks
#   make install        into PREFIX (default /usr/local); DESTDIR for packaging

CARGO   ?= cargo
PREFIX  ?= /usr/local
LIBDIR  ?= $(PREFIX)/lib
TARGET  := $(or $(CARGO_TARGET_DIR),target)
RELEASE := $(TARGET)/release

# Python's own pool would keep most objects away from malloc, hence PYTHONMALLOC.
CMD ?= env PYTHONMALLOC=malloc python3 docs/examples/parse_stdlib.py

# The topology check of the command against hwloc is built and tested here, not by plain users.
FEATURES := --features zonal-cli/hwloc

.PHONY: build run setup test install

build:
	$(CARGO) build --release

run: build
	$(RELEASE)/zonal run --stats -- $(CMD)

# Debian packages that the tests need; does nothing where all are there.
setup:
	tests/setup

test: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets $(FEATURES) -- -D warnings
	$(CARGO) build --release
	$(CARGO) test --workspace $(FEATURES)
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps

install: build
	install -D -m 755 $(RELEASE)/zonal $(DESTDIR)$(PREFIX)/bin/zonal
	install -D -m 644 $(RELEASE)/libzonal.so $(DESTDIR)$(LIBDIR)/libzonal.so
