# Two commands do everything; the rest is `cargo xtask --help`.

.PHONY: demo test linker postgresql

# See Tenfold at work: three instances, one of which dies and returns; HTTP/2, a canary, a mirror, a drain, the cache; a database with two
# replicas, and a failover. ONCE=1 ends by itself.
demo: linker postgresql
	cargo run --profile demo --package tenfold-cli -- demo $(if $(ONCE),--once)

# Install what tests need, then run everything that has to pass.
test: linker
	cargo xtask install
	cargo xtask ci

# Without a linker nothing can be built, not even what would install it.
linker:
	@command -v cc >/dev/null || { \
		echo "cc is missing; installing gcc with apt-get"; \
		if [ "$$(id -u)" = 0 ]; then as_root=; else as_root=sudo; fi; \
		$$as_root apt-get install --yes --no-install-recommends gcc libc6-dev || \
		{ $$as_root apt-get update && $$as_root apt-get install --yes --no-install-recommends gcc libc6-dev; }; \
	}

# The demo's last step shows a database, which needs one.
postgresql:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { \
		echo "PostgreSQL is missing; installing postgresql with apt-get"; \
		if [ "$$(id -u)" = 0 ]; then as_root=; else as_root=sudo; fi; \
		$$as_root apt-get install --yes --no-install-recommends postgresql || \
		{ $$as_root apt-get update && $$as_root apt-get install --yes --no-install-recommends postgresql; }; \
	}
