# Each target installs what it needs, then calls the tools.
.PHONY: demo test

# Everything on one machine: a PostgreSQL of its own (or DATABASE_URL), two bookings, the relay on http://127.0.0.1:4000.
demo:
	@scripts/setup demo
	@scripts/pages
	@cargo run --release --locked --bin pgrelay -- demo

# Everything that must hold before a change lands.
test:
	@scripts/test
