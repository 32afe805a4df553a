# Entry points. Everything real is done by cargo and by the scripts in tests/.
#
#   make                build libzonal.so and the command zonal
#   make run            run a real program on zonal; CMD='...' chooses another one
#   make test           everything that continuous integration checks
#   make test-programs  more real programs on zonal: databases, servers, compilers, runtimes
#   make fuzz           random inputs for an hour, or SECONDS=n
#   make soak           a mixed program for an hour, or ZONAL_SOAK_SECONDS=n
#   make soak-reclaim   memory that goes back beside threads that come and go, for ten minutes
#   make test-aarch64   the library for aarch64, under QEMU
#   make test-vm        kernels with several nodes, under QEMU
#   make bench          compare with other allocators: benches/README.md; bench-quick takes five minutes,
#                       bench-thp has huge pages off and on, bench-pages the page layer alone
#   make gate           what does not depend on the machine's speed, against its bounds
#   make install        what make built, into PREFIX (default /usr/local); DESTDIR for packaging

CARGO   ?= cargo
PREFIX  ?= /usr/local
LIBDIR  ?= $(PREFIX)/lib
DOCDIR  ?= $(PREFIX)/share/doc/zonal
TARGET  := $(or $(CARGO_TARGET_DIR),target)
RELEASE := $(TARGET)/release
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)

# The interpreter itself, since python3 may be a script that starts many programs, each of which
# would report.
PYTHON = $(shell python3 -c 'import sys; print(sys.executable)')
CMD ?= $(PYTHON) docs/examples/parse_stdlib.py

# The topology check of the command against hwloc is built and tested here, not by plain users.
FEATURES := --features zonal-cli/hwloc

# What is installed, and no more: built together with the tests, the library would share their
# features, among them libc's `std`, which leaves it without a link to the C library. Checked
# together with them it would have two panic handlers, its own and that of `std`.
ARTEFACTS := -p zonal-preload -p zonal-cli

.PHONY: build run setup test test-programs install bench bench-quick test-vm fuzz soak soak-reclaim test-aarch64 gate bench-pages bench-thp

build:
	$(CARGO) build --release $(ARTEFACTS)

# Python's own pool would keep most objects away from malloc.
run: export PYTHONMALLOC = malloc
run: build
	$(RELEASE)/zonal run --stats -- $(CMD)

# Debian packages that the tests need; does nothing where all are there.
setup:
	tests/setup

# Which library the tests preload. Crates come by a network that may fail for a moment. Random inputs are the same
# in each run: `cargo test` and `make fuzz` draw others, and print what they drew.
test: export ZONAL_LIB = $(abspath $(RELEASE)/libzonal.so)
test: export CARGO_NET_RETRY ?= 10
test: export PROPTEST_RNG_SEED ?= 1
test: export ZONAL_FUZZ_SEED ?= 1
test: setup
	tests/stage $(CARGO) fmt --all --check
	tests/stage $(CARGO) clippy --workspace --exclude zonal-preload --all-targets $(FEATURES) -- -D warnings
	tests/stage $(CARGO) clippy $(ARTEFACTS) -- -D warnings
	RUSTDOCFLAGS='-D warnings' tests/stage $(CARGO) doc --workspace --no-deps
	RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' \
	    tests/stage $(CARGO) doc --workspace --no-deps --document-private-items
	tests/stage $(CARGO) build --release $(ARTEFACTS)
	tests/stage $(CARGO) test --workspace $(FEATURES)
	tests/stage tests/loom.sh
	tests/stage $(MAKE) --no-print-directory gate
	tests/stage $(MAKE) -j2 fuzz SECONDS=60 soak ZONAL_SOAK_SECONDS=120

# All targets at one time, for as long.
fuzz:
	tests/fuzz.sh $(or $(SECONDS),3600)

# A mixed program on zonal, watched for memory that does not come back.
soak: export ZONAL_LIB = $(abspath $(RELEASE)/libzonal.so)
soak: export ZONAL_SOAK_SECONDS ?= 3600
soak: build
	$(CARGO) test -p zonal-tests --test soak -- --nocapture

# Memory that goes back while threads start, end and fork; ten minutes.
soak-reclaim: export ZONAL_LIB = $(abspath $(RELEASE)/libzonal.so)
soak-reclaim: export ZONAL_SOAK_SECONDS ?= 600
soak-reclaim: build
	$(CARGO) test -p zonal-tests --test reclaim -- --nocapture reclaim_while

# For another processor, under QEMU's user mode. Says what is missing where it cannot run.
test-aarch64:
	tests/aarch64.sh

# The multi-node laboratory with all its layouts.
test-vm: export ZONAL_LIB = $(abspath $(RELEASE)/libzonal.so)
test-vm: build
	tests/setup
	$(CARGO) test -p zonal-tests --test vm -- --include-ignored

test-programs: export ZONAL_LIB = $(abspath $(RELEASE)/libzonal.so)
test-programs: build
	tests/setup programs
	$(CARGO) test -p zonal-tests --test programs_more -- --ignored

# Needs no cargo once all is built: root's PATH often has none. It does not build again what is there.
$(RELEASE)/zonal $(RELEASE)/libzonal.so &:
	$(CARGO) build --release $(ARTEFACTS)

install: $(RELEASE)/zonal $(RELEASE)/libzonal.so
	install -D -m 755 $(RELEASE)/zonal $(DESTDIR)$(PREFIX)/bin/zonal
	install -D -m 644 $(RELEASE)/libzonal.so $(DESTDIR)$(LIBDIR)/libzonal.so
	install -D -m 644 ffi/include/zonal.h $(DESTDIR)$(PREFIX)/include/zonal.h
	sed 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|; s|$${prefix}/lib$$|$(LIBDIR)|' ffi/zonal.pc.in \
	    | install -D -m 644 /dev/stdin $(DESTDIR)$(LIBDIR)/pkgconfig/zonal.pc
	install -d $(DESTDIR)$(DOCDIR)/docs/guide
	install -m 644 README.md LD_PRELOAD.md SECURITY.md CHANGELOG.md $(DESTDIR)$(DOCDIR)
	install -m 644 docs/*.md docs/stats.schema.json $(DESTDIR)$(DOCDIR)/docs
	install -m 644 docs/guide/*.md $(DESTDIR)$(DOCDIR)/docs/guide

# Instructions, atomic operations, system calls and zone locks against their bounds.
gate: export ZONAL_LIB = $(abspath $(RELEASE)/libzonal.so)
gate: build
	cd benches && $(CARGO) build --release --quiet --package loads
	cd benches && $(CARGO) build --release --quiet --package rust-zonal
	benches/gate.py

# The rows whose memory huge pages change most, with and without them.
bench-thp: build
	cd benches && $(CARGO) build --release --quiet --package loads --package compare
	cd benches && $(CARGO) run --release --quiet --package compare -- --rounds 5 --name thp \
	    --only 'random,burst,stack,tree,touch,blocks,realloc,larson t8,python3,perl,redis' \
	    --allocators zonal,mimalloc3,mimalloc2 \
	    --also never=$(abspath $(RELEASE)/libzonal.so),ZONAL_CONF=thp:never \
	    --also always=$(abspath $(RELEASE)/libzonal.so),ZONAL_CONF=thp:always

# The page layer by itself.
bench-pages:
	cd benches && $(CARGO) run --release --quiet --package pages

bench bench-quick: build
	cd benches && $(CARGO) build --release --quiet --package loads --package compare
	cd benches && $(CARGO) run --release --quiet --package compare -- $(if $(findstring quick,$@),--quick)
