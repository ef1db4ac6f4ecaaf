# "make help" lists what there is. All of it needs Go 1.26. "make test" also
# wants a C compiler (for the race detector), PostgreSQL, Prometheus, Chromium, curl, Node 20 or newer and npm;
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
UNITS = $$($(GO) list ./... | grep -v -e /integration -e /archtest)

# The unit tests open many small stores. Their files are in memory where there is room
# for them, because a slow disk would take most of the time.
MEMORY = env $$(scripts/tools.sh tmp)

# The integration tests run the real binary, which the test cache cannot see. "make
# test" builds it with the race detector for the tests that RACES matches: those with
# many callers, several nodes, kills or reloads. "make race" does so for all.
INTEGRATION = ./integration/...
RACES = ^(TestCluster.*|TestReload|TestKill|TestExactlyTen|TestDraining|TestBalancerLosesNoCall|TestHealthOverReloads|TestManyAtOnce|TestOneIDAtATime|TestAbandonedCalls|TestRepeat.*|TestResumed.*|TestStreamsEnd.*|TestTaskIsPaidOnce|TestTaskSurvives|TestConcurrentCallersMeetACap|TestConsoleInABrowser|TestTwoProcesses|TestGatewayWithoutAStore|TestConnectKill|TestConnectBudget|TestConnectLostAnswers)$$

.PHONY: help build release run run-postgres run-gateway-only test test-dates race conformance tools fmt vet lint bench bench-quick bench-build bench-parts compare-stdio soak growth growth-pages dashboards pictures console-pictures clean
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

release: ## build archives, packages, images and checksums of this commit into dist/; PLATFORMS=linux/amd64 builds less
	@mkdir -p bin
	cd scripts/release && $(GO) build -o ../../bin/release .
	bin/release -platforms "$(PLATFORMS)"

run: build ## start a server and the gateway, make a paid call, stay up until Ctrl-C
	@bin/quickstart

run-postgres: build ## the same with two gateways on one PostgreSQL, behind a balancer
	@bin/run-postgres

run-gateway-only: build ## the same with a gateway without a store, and the platform that it asks
	@bin/run-gateway-only

test: tools fmt vet lint ## check everything
	$(MEMORY) $(GO) test $$(scripts/tools.sh flags) $(DATED) -vet=off -timeout 20m $(UNITS)
	cd config/grafana/generate && $(GO) test ./...
	$(MEMORY) $(GO) test $(DATED) -vet=off -timeout 10m -run '^TestSuiteFindsBrokenStores$$' ./internal/sqlitestore # too slow for the race detector
	$(GO) test -vet=off ./internal/archtest # reads all files, and slowly with the race detector
	@$(if $(AT),,$(MAKE) --no-print-directory test-dates)
	left=$$(scripts/tools.sh left_out); \
	$(GO) test $(DATED) -vet=off -timeout 60m -count=1 -skip '$(RACES)'"$${left:+|$$left}" $(INTEGRATION)
	$(GO) test $$(scripts/tools.sh flags) $(DATED) -vet=off -timeout 60m -count=1 -run '$(RACES)' ./integration

race: tools ## the integration tests, all with the race detector; an hour
	$(GO) test $$(scripts/tools.sh flags) $(DATED) -vet=off -timeout 120m -count=1 $(INTEGRATION)

test-dates: ## the unit tests, fewer draws of the models, with the clock a year ahead, and at the end of a month and of a year
	$(MEMORY) $(GO) test -short $(call at,year) -vet=off -timeout 20m $(UNITS)
	$(MEMORY) $(GO) test -short $(call at,month-end) -vet=off -timeout 20m $(UNITS)
	$(MEMORY) $(GO) test -short $(call at,year-end) -vet=off -timeout 20m $(UNITS)

conformance: tools ## compare the official conformance suite through the gateway with direct runs
	@out=$$($(GO) test $(filter -race,$(shell scripts/tools.sh flags)) -vet=off -timeout 10m -count=1 -v -run '^TestConformance' ./integration 2>&1); \
	status=$$?; echo "$$out" | grep -v '^=== '; exit $$status

tools: ## see what "make test" needs, and install what is missing if this may be done
	@scripts/tools.sh

fmt: ## see that all Go code is formatted
	@found=$$(gofmt -l $$($(GO) list -f '{{.Dir}}' ./...)); \
	found="$$found$$(gofmt -l config/grafana)"; \
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

compare-stdio: tools ## measure farebox_stdio and farebox connect beside other programs, and play faults of servers; twelve minutes
	$(GO) test -vet=off -timeout 60m -count=1 -v -run '^TestComparison' ./integration -comparison-rounds 5 | grep -e '| ' -e '^ok' -e FAIL -e _test.go

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

growth-pages: ## measure reports and the console's pages on both stores with CHARGES (1000000) charges, by a tenth as many keys
	$(GO) test -vet=off -count=1 -timeout 60m -v -run '^TestUsageGrowth$$' ./internal/sqlitestore -growth $(CHARGES)
	$(GO) test -vet=off -count=1 -timeout 60m -v -run '^TestUsageGrowth$$' ./internal/pgstore -growth $(CHARGES)
	$(GO) test -vet=off -count=1 -timeout 60m -v -run '^TestPagesOfLargeStores$$' ./internal/console -growth $(CHARGES)

dashboards: ## write config/grafana/dashboards anew, from the programs beside them
	cd config/grafana/generate && $(GO) generate .

pictures: tools ## draw the dashboards from a real Prometheus and gateways under load into bin/dashboards; three minutes
	$(GO) test -vet=off -count=1 -timeout 15m -run '^TestPrometheusMonitoring$$' ./integration -pictures ../bin/dashboards

console-pictures: tools ## use the console in a browser, and keep pictures of its pages in bin/console; three minutes
	FAREBOX_PICTURES=$(CURDIR)/bin/console $(GO) test -vet=off -count=1 -timeout 15m -run '^TestConsoleInABrowser$$/^sqlite$$' ./integration

clean: ## remove what was built and installed; data/, with its credits, stays
	rm -rf bin dist integration/node/node_modules
