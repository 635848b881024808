# The few commands a newcomer needs. `make` alone lists them.

FUZZ_SECONDS ?= 60

# A person sees cargo's own progress, a log one line.
define build_quick
@if [ -t 1 ]; then set --; else echo "    compiling (minutes the first time)"; set -- --quiet; fi; \
	exec cargo build "$$@" --profile quick -p trunkline
endef

.PHONY: help
help: ## List these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

.PHONY: demo
demo: ## A primary, two streaming replicas and Trunkline in front of them, to play with (DEMO_ARGS="--help" lists more)
	@scripts/ci/tools.sh server $(DEMO_ARGS)
	$(build_quick)
	@exec "$${CARGO_TARGET_DIR:-target}/quick/trunkline" demo $(DEMO_ARGS)

# Where `make install` puts things; DESTDIR stands before each, for packagers.
PREFIX ?= /usr/local
install_environment = PREFIX='$(PREFIX)' SYSCONFDIR='$(SYSCONFDIR)' DESTDIR='$(DESTDIR)'

.PHONY: install
install: ## The release binary, completions, the systemd unit and a sample configuration below PREFIX (/usr/local); DESTDIR counts
	@$(install_environment) scripts/install.sh install

.PHONY: uninstall
uninstall: ## Remove what `make install` put there; /etc/trunkline stays
	@$(install_environment) scripts/install.sh uninstall

.PHONY: test
test: ## All checks and suites, as CI runs them; installs PostgreSQL from Debian where it is missing
	@scripts/ci/run.sh

MOVES_SECONDS ?= 3600
POOLING_SECONDS ?= 300
SPLITTING_SECONDS ?= 300

.PHONY: test-long
test-long: test-foreign ## Each suite over TLS or without, as `make test` does not; an hour (MOVES_SECONDS) of random sessions with random moves, each compared with one that stays; crowds of pooled clients, POOLING_SECONDS (300) each; one port for reads and writes under faults, SPLITTING_SECONDS (300)
	@scripts/ci/tools.sh server
	@scripts/ci/reversed.sh
	cargo test -p trunkline-tests --test torture -- --ignored --test-threads 1
	TRUNKLINE_POOLING_SECONDS=$(POOLING_SECONDS) cargo test -p trunkline-tests --test slow_pooling -- --nocapture --test-threads 1
	TRUNKLINE_SPLITTING_SECONDS=$(SPLITTING_SECONDS) cargo test -p trunkline-tests --test splitting_writes
	TRUNKLINE_MOVES_SECONDS=$(MOVES_SECONDS) cargo test -p trunkline-tests --test moves a_session_that_moves -- --nocapture
	@if [ "$$(id -u)" -eq 0 ]; then tests/newcomer/run.sh; else echo "    newcomer: SKIPPED, only root can make a Debian root"; fi

.PHONY: test-foreign
test-foreign: ## Suites of PostgreSQL's, Python's and Node's drivers', SQLAlchemy's and Django's own and sysbench, in both modes of pooling and on one port for reads and writes; downloads their source
	@scripts/ci/tools.sh all
	$(build_quick)
	@scripts/ci/foreign.sh
	@scripts/ci/pooled_clients.sh
	@scripts/ci/sysbench_split.sh

.PHONY: newcomer
newcomer: ## README.md followed in a bare bookworm and a bare trixie, and the usual mistakes; needs root, debootstrap and rustup
	@tests/newcomer/run.sh

.PHONY: quick-test
quick-test: ## Unit and simulation tests only: no PostgreSQL, seconds
	cargo test --workspace --exclude trunkline-tests --lib --bins

.PHONY: fuzz
fuzz: ## Every fuzz target for FUZZ_SECONDS (60) each; needs a nightly toolchain
	@scripts/ci/fuzz.sh $(FUZZ_SECONDS)

.PHONY: fmt
fmt: ## Format all code
	cargo fmt --all

.PHONY: lint
lint: ## Clippy, warnings are errors
	cargo clippy --workspace --all-targets --quiet -- -D warnings

.PHONY: doc
doc: ## Build the API documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

.PHONY: bench
bench: ## Trunkline beside HAProxy and PgBouncer, pinned to one core; results in benches/results (BENCH_ARGS="--help" lists more)
	@scripts/bench/bench.sh $(BENCH_ARGS)

.PHONY: bench-quick
bench-quick: ## The same in about a quarter of an hour
	@scripts/bench/bench.sh --quick $(BENCH_ARGS)

.PHONY: bench-pool
bench-pool: ## Of it the pools: Trunkline and the newest PgBouncer, 500 clients on 20 server connections, new clients and idle ones (BENCH_ARGS=--quick: minutes)
	@scripts/bench/bench.sh --stage pool $(BENCH_ARGS)

.PHONY: bench-instructions
bench-instructions: ## User instructions of the scanner and of a query in the session, each against its ceiling; needs Valgrind
	@scripts/ci/ceilings.sh

.PHONY: bench-faults
bench-faults: ## The same replica killed behind HAProxy, PgBouncer and Trunkline; prints who lost what
	@scripts/bench/faults.sh
