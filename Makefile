# make demo   race a hotel's last room: the right procedure holds, the broken one is caught
# make test   all tests, and those of checks on the newest PostgreSQL as well
# make test-versions  the tests of checks on PostgreSQL 13 to 18, which are fetched (Linux on x86-64)
# make lint   what CI checks beside the tests
# make matrix every bug and every scenario, 20 times each (MATRIX_ONLY=last-room MATRIX_RUNS=5 make matrix)
# make bench  how long it takes, how surely it shows a bug, how well schedules are kept, what it costs beside pgbench
# Each installs a PostgreSQL server first if there is none.

CARGO ?= cargo

.PHONY: demo test test-versions lint matrix bench postgres test-tools parsers

demo: postgres
	@$(CARGO) build --quiet
	@scripts/demo $(CARGO) run --quiet --

test: postgres test-tools parsers
	$(CARGO) test
	@CARGO="$(CARGO)" scripts/test-versions --if-reachable 18

test-versions: postgres
	@CARGO="$(CARGO)" scripts/test-versions 13 14 15 16 17 18

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --quiet

matrix: postgres
	@$(CARGO) bench --quiet --bench matrix

bench: postgres
	@$(CARGO) bench --quiet --bench verdict --bench detection --bench schedules --bench watcher --bench throughput --bench checks

postgres:
	@scripts/ensure-postgres

test-tools:
	@scripts/ensure-test-tools

# by which reports are read in the tests; where they can't be had, it says so
parsers:
	@scripts/ensure-parsers || [ $$? -eq 75 ]
