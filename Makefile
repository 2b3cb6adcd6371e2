# The commands of this project. `make demo` shows it, `make test` proves it.

CARGO ?= cargo

.PHONY: help demo test reference simulate crash fuzz bench build fmt lint deny image deb clean

help:
	@echo "make demo      a fleet breaks, and what is done about it, on this machine, in a minute or two"
	@echo "make test      format, lints and every test (installs Debian packages that are absent)"
	@echo "make simulate  SEEDS=10000 random stories of the engine, with faults and crashes"
	@echo "make crash     kills of the real program around every append, and ROUNDS=300 at random"
	@echo "make fuzz      every parser of strange bytes for SECONDS=60 each, by libFuzzer (needs cargo-fuzz and a nightly)"
	@echo "make bench     speed and size beside their floors, into benches/RESULTS.md (about ten minutes)"
	@echo "make build     the program, in target/debug"
	@echo "make reference config/README.md, of the code that reads the config"
	@echo "make fmt       formats the sources"
	@echo "make lint      clippy, warnings are errors"
	@echo "make deny      licences, sources and banned crates (needs cargo-deny)"
	@echo "make image     the container image runbookd:VERSION (needs docker)"
	@echo "make deb       the Debian package, in target/debian (needs cargo-deb)"
	@echo "make clean     removes what was built"

demo:
	deploy/demo/run

# One `cargo test` for everything: a second selection would compile the dependencies again.
test:
	.ci/packages prometheus promtool prometheus-alertmanager amtool cc curl ssh sshd pgrep aiosmtpd python3 systemd-analyze setpriv nginx openssl \
	  redis-server redis-cli redis-check-rdb psql pg_ctlcluster /usr/bin/jsonschema chromium chromedriver
	.ci/linters
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) test --locked

# The tests hold the file to the code.
reference:
	UPDATE=1 $(CARGO) test --locked --lib config::reference

# Nothing here fails for being slow. With npm there, Restate is measured beside us; a part by its name:
# cargo bench --bench goals -- webhooks --quick
bench:
	.ci/packages cc
	$(CARGO) bench --locked --bench goals -- --write benches/RESULTS.md

# Other seeds at each call, unless FIRST says where to begin. `make test` plays the same few hundred every time.
SEEDS ?= 10000
FIRST ?= $(shell date +%s)000
simulate:
	RUNBOOKD_SEEDS=$(SEEDS) RUNBOOKD_FIRST_SEED=$(FIRST) \
	  $(CARGO) test --locked --lib every_promise_is_kept_under_every_seed -- --nocapture

ROUNDS ?= 300
crash:
	RUNBOOKD_CRASH=all RUNBOOKD_ROUNDS=$(ROUNDS) \
	  $(CARGO) test --locked --test it crash:: -- --nocapture --test-threads 1

# What it finds is in tests/fuzz/artifacts; a copy of it in tests/fuzz/corpus/<target> makes `make test` hold to it.
SECONDS ?= 60
TARGETS ?= $(notdir $(basename $(wildcard tests/fuzz/targets/*.rs)))
fuzz:
	for target in $(TARGETS); do \
	  mkdir -p tests/fuzz/found/$$target && \
	  $(CARGO) +nightly fuzz run --fuzz-dir tests/fuzz $$target tests/fuzz/found/$$target tests/fuzz/corpus/$$target \
	    -- -max_total_time=$(SECONDS) -max_len=65536 -timeout=10 -rss_limit_mb=2048 || exit 1; \
	done

build:
	$(CARGO) build --locked

fmt:
	$(CARGO) fmt

lint:
	$(CARGO) clippy --locked --all-targets -- -D warnings

deny:
	@if command -v cargo-deny >/dev/null; then \
	  $(CARGO) deny --offline check bans licenses sources; \
	else echo "cargo-deny is not installed" >&2; exit 1; fi

VERSION ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
image:
	docker build -f deploy/docker/Dockerfile --build-arg VERSION=$(VERSION) \
	  --build-arg REVISION=$$(git rev-parse HEAD) -t runbookd:$(VERSION) .

deb:
	$(CARGO) deb --locked --profile dist

clean:
	$(CARGO) clean
