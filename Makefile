# "make help" lists what there is. All of it needs Go 1.26. "make test" also
# wants a C compiler (for the race detector), PostgreSQL, curl, Node 20 or newer and npm;
# what is missing it installs if it may. FAREBOX_INSTALL=no forbids that. The
# conformance suite and some clients need Node 24, which npm brings on Linux x64.

GO   ?= go
FUZZ ?= 10m
CHARGES ?= 1000000

# "make test AT=year" runs everything with the process clock a year ahead; also
# month-end and year-end, a minute before midnight (scripts/clock.sh).
AT ?=
at = -ldflags "-X github.com/fareboxhq/farebox/internal/clock.shift=$$(scripts/clock.sh $(1))"
DATED = $(if $(AT),$(call at,$(AT)))
UNITS = $$($(GO) list ./... | grep -v /integration)

# The integration tests run the real binary, which the test cache cannot see.
INTEGRATION = ./integration/...

.PHONY: help build run run-postgres run-gateway-only test test-dates conformance tools fmt vet lint bench bench-quick bench-build bench-parts soak growth clean
.DEFAULT_GOAL := help

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/farebox, and the programs of the examples
	@mkdir -p bin
	$(GO) build -o bin/farebox ./xcaddy
	$(GO) build -o bin/weather ./examples/weather
	$(GO) build -o bin/billing ./examples/billing
	$(GO) build -o bin/quickstart ./examples/quickstart
	$(GO) build -o bin/run-postgres ./examples/postgres
	$(GO) build -o bin/run-gateway-only ./examples/gateway-only

run: build ## start a server and the gateway, make a paid call, stay up until Ctrl-C
	@bin/quickstart

run-postgres: build ## the same with two gateways on one PostgreSQL, behind a balancer
	@bin/run-postgres

run-gateway-only: build ## the same with a gateway without a store, and the platform that it asks
	@bin/run-gateway-only

test: tools fmt vet lint ## check everything
	$(GO) test $$(scripts/tools.sh flags) $(DATED) -vet=off -timeout 20m $(UNITS)
	$(GO) test $(DATED) -vet=off -timeout 10m -run '^TestSuiteFindsBrokenStores$$' ./internal/sqlitestore # too slow for the race detector
	@$(if $(AT),,$(MAKE) --no-print-directory test-dates)
	$(GO) test $$(scripts/tools.sh flags) $(DATED) -vet=off -timeout 40m -count=1 $(INTEGRATION)

test-dates: ## the unit tests, fewer draws of the models, with the clock a year ahead, and at the end of a month and of a year
	$(GO) test -short $(call at,year) -vet=off -timeout 20m $(UNITS)
	$(GO) test -short $(call at,month-end) -vet=off -timeout 20m $(UNITS)
	$(GO) test -short $(call at,year-end) -vet=off -timeout 20m $(UNITS)

conformance: tools ## compare the official conformance suite through the gateway with direct runs
	@out=$$($(GO) test $(filter -race,$(shell scripts/tools.sh flags)) -vet=off -timeout 10m -count=1 -v -run '^TestConformance' ./integration 2>&1); \
	status=$$?; echo "$$out" | grep -v '^=== '; exit $$status

tools: ## see what "make test" needs, and install what is missing if this may be done
	@scripts/tools.sh

fmt: ## see that all Go code is formatted
	@found=$$(gofmt -l $$($(GO) list -f '{{.Dir}}' ./...)); \
	[ -z "$$found" ] || { echo "not formatted, run gofmt -w on:"; echo "$$found"; exit 1; }

vet: ## go vet
	$(GO) vet ./...

# "lint types" compiles nothing; go vet for another system compiles all that is
# imported, which takes six minutes for each on a machine with an empty cache.
lint: ## staticcheck, the analyzers of scripts/lint, and the types on macOS and Windows
	$(GO) tool staticcheck ./...
	cd scripts/lint && $(GO) build -o ../../bin/lint .
	bin/lint ./...
	GOOS=darwin bin/lint types ./...
	GOOS=windows bin/lint types ./caddymodule/... ./internal/... ./xcaddy/...

bench: bench-build ## measure a call through Farebox, Caddy and nginx; a quarter of an hour, writes docs/performance
	bin/bench -out docs/performance

bench-quick: bench-build ## the main rows of bench, in less than two minutes
	bin/bench -rows quick -rounds 3 -seconds 2 -out bin/bench-quick

bench-streams: bench-build ## measure 5000 idle event streams, a result of 1 GiB and slow readers; writes docs/performance
	bin/bench -streams 5000 -seconds 20 -out docs/performance

bench-build:
	@scripts/tools.sh bench
	@mkdir -p bin
	$(GO) build -o bin/farebox ./xcaddy
	$(GO) build -o bin/bench ./integration/bench

bench-parts: ## run every Go benchmark
	$(GO) test -run '^$$' -bench . -benchmem ./...

soak: ## run what is too long for test: 200 reloads, 50 kills, gateways that share a database, broken disks, and each fuzz target for FUZZ (10m)
	$(GO) test -race -count=1 -timeout 30m -run '^(TestReload|TestKill|TestExactlyTen)$$' ./integration -reloads 200 -kills 50 -tens 100
	$(GO) test -race -count=1 -timeout 30m -run '^TestCluster' ./integration -cluster-rounds 10
	$(GO) test -race -count=10 -timeout 30m -run '^(TestBrokenDisk|TestExpiryRacesCapture)$$' ./internal/sqlitestore
	@GO="$(GO)" scripts/soak.sh "$(FUZZ)"

growth: ## measure what CHARGES (1000000) charges leave behind in both stores, and on SQLite what an archive leaves
	$(GO) test -vet=off -count=1 -timeout 60m -v -run '^TestGrowth$$' ./internal/sqlitestore -growth $(CHARGES)
	$(GO) test -vet=off -count=1 -timeout 60m -v -run '^TestGrowth$$' ./internal/pgstore -growth $(CHARGES)

clean: ## remove what was built and installed; data/, with its credits, stays
	rm -rf bin integration/node/node_modules
