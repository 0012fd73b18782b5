# Each target installs what it needs, then calls the tools.
# The nightly set of faults; `make faults SEED=7 SCHEDULES=1` plays one again.
SEED ?= 0
SCHEDULES ?= 300

.PHONY: demo test faults bench bench-quick

# Everything on one machine: a PostgreSQL of its own (or DATABASE_URL), two bookings, the relay on http://127.0.0.1:4000.
demo:
	@scripts/setup demo
	@scripts/pages
	@cargo run --release --locked --bin pgrelay -- demo

# Everything that must hold before a change lands.
test:
	@scripts/test

# Everything that can break, from seeds; the last line is a summary. Other tests must not run at the same time.
faults:
	@scripts/setup test
	@scripts/faults $(SEED) $(SCHEDULES)

# The floor, the peers and pgrelay in one run; writes bench/RESULTS.md. Takes hours, on a machine that does nothing else.
bench:
	@scripts/bench

# One short pass beside the floor and Bun; writes target/bench/RESULTS.md. Less than ten minutes.
bench-quick:
	@scripts/bench --quick
