# make demo   race a hotel's last room: the right procedure holds, the broken one is caught
# make test   all tests
# make lint   what CI checks beside the tests
# make matrix every bug and every scenario, 20 times each (MATRIX_ONLY=last-room MATRIX_RUNS=5 make matrix)
# make bench  how long it takes, how surely it shows a bug, how well schedules are kept, what it costs beside pgbench
# Each installs a PostgreSQL server first if there is none.

CARGO ?= cargo

.PHONY: demo test lint matrix bench postgres parsers

demo: postgres
	@$(CARGO) build --quiet
	@scripts/demo $(CARGO) run --quiet --

test: postgres parsers
	$(CARGO) test

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --quiet

matrix: postgres
	@$(CARGO) bench --quiet --bench matrix

bench: postgres
	@$(CARGO) bench --quiet --bench verdict --bench detection --bench schedules --bench watcher --bench throughput

postgres:
	@scripts/ensure-postgres

# by which reports are read in the tests; where they can't be had, it says so
parsers:
	@scripts/ensure-parsers || [ $$? -eq 75 ]
