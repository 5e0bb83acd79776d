# Two commands are for everybody: `make demo` and `make test`. README.md says what each needs.
.PHONY: release demo demo-clients demo-traefik picture test quick quick-tests quick-e2e nightly providers unit yaegi fuzz e2e lint generate bench tools ship

ADDR ?= localhost:8090
ONCE ?=

# As the tools are built, so that nothing is compiled twice.
export CGO_ENABLED = 0

DEMO = cd deploy/e2e && go run ./cmd/demo -addr $(ADDR) $(if $(ONCE),-once)

demo:
	@$(DEMO)

# The commands that add the demo to clients; it says when one has logged in.
demo-clients:
	@$(DEMO) -clients

demo-traefik:
	@echo 'Building Traefik: 2 to 8 minutes the first time, seconds afterwards.'
	@deploy/e2e/traefik/build.sh build/traefik
	@$(DEMO) -traefik

# docs/images/dashboard.svg: the panels of deploy/observe, of a demo under load for four minutes.
picture: tools
	cd deploy/e2e && go run ./cmd/demo -addr $(ADDR) -picture $(CURDIR)/docs/images/dashboard.svg

# BIG=1 drives more programs of others, which are 680 MB to load: .ci/run and `make nightly` have
# them, so they still meet each change before it lands.
BIG ?=
WITH_BIG = $(if $(BIG),-tags big)
nightly providers: BIG = 1

# Each part says what it cost, and at the end all of them do.
PARTS = lint unit fuzz ship tools e2e
test:
	@MAKE='$(MAKE)' .ci/parts $(PARTS)

# What a change to one package needs, within a minute once the build cache is warm: packages that
# the change does not reach are not tested again. Without -race, fuzzing, Yaegi and real parts. The
# tests of the largest package run one after the other; what else is to be done is beside them.
quick:
	@began=$$(date +%s); $(MAKE) --no-print-directory -j --output-sync=target lint quick-tests quick-e2e && echo "== quick $$(($$(date +%s) - began)) s"
quick-tests:
	go test $(VETTED) ./...
quick-e2e:
	cd deploy/e2e && go vet ./...

# go test has a part of go vet in it, all of which is in lint.
VETTED = -vet=off

# What takes too long for every change: twenty times as many inputs for each fuzz target, every cell
# of the tables of clients, random clients for five minutes with each kind of replay guard, for two
# while plugin and sidecar go one version back and forth, and for a minute at providers of each
# kind; a real API server of Kubernetes, which takes 9 minutes to build.
nightly: tools
	.ci/fuzz 400000x
	command -v qemu-aarch64-static qemu-x86_64-static >/dev/null || { apt-get update && apt-get install -y --no-install-recommends qemu-user-static; }
	cd deploy/release && go test -count=1 -timeout 60m -v . -all
	deploy/e2e/providers.sh
	deploy/e2e/kubernetes/install.sh
	cd deploy/e2e && go test -count=1 -timeout 10m -v -tags kubernetes -run 'Kubernetes' .
	deploy/e2e/proxies/install.sh
	cd deploy/e2e && go test -count=1 -timeout 10m -v -tags proxies -run '^(TestProxiesThatAsk|TestGatewayGetsItsCertificateByACME)$$' .
	cd deploy/e2e && go test -count=1 -timeout 30m -run '^(TestWholeProviders|TestDoctorOnRealProviders)$$' . -providers all
	cd deploy/e2e && go test -tags big -count=1 -timeout 20m -v -run '^(TestSDKsOnBadDays|TestRequiredScopesWithEachSDK|TestClientsWhereKeysAreProven)$$' . -matrix
	cd deploy/e2e && go test -tags big -count=1 -timeout 40m -v -run '^(TestRealPrograms|TestProgramsOnBadDays)$$' . -matrix
	cd deploy/e2e && go test -count=1 -timeout 40m -v -run '^TestSwarm$$' . -swarm 5m -guards none,memory,redis,dynamodb
	cd deploy/e2e && go test -count=1 -timeout 20m -v -tags rolling -run '^TestSwarmWhileVersionsAreReplaced$$' . -swarm 2m -rollingguards none,memory,redis
	cd deploy/e2e && go test -count=1 -timeout 40m -v -run '^TestSwarmAtProviders$$' . -swarm 1m -manners all -mannerguards none,redis
	cd deploy/e2e && go test -count=1 -timeout 20m -v -run '^TestFrozenFunctions$$' . -freeze 10s -logins 200
	cd deploy/e2e && go test -count=1 -timeout 10m -v -run '^(TestLintReadsRulesAsTraefikDoes|TestLintMissesNoWayThatIsOpen)$$' . -seed $$(date +%s)

# Every provider that can be had here, logged in at; docs/providers.md is what came of it.
providers: tools
	deploy/e2e/providers.sh
	cd deploy/e2e && go test -count=1 -timeout 30m -run '^TestWholeProviders$$' . -providers all -update

unit:
	CGO_ENABLED=1 go test -race $(VETTED) ./...

# All that a release consists of, as docs/releasing.md says: make release VERSION=v0.1.0 OUT=dist
VERSION ?=
OUT ?= dist
release:
	go -C deploy/release run . build -version '$(VERSION)' -out '$(abspath $(OUT))'

# A release for this machine's platform, made twice and run, and all that its form depends on.
ship:
	cd deploy/release && go vet ./... && go test -count=1 ./...

# What is written from comments, tags and tables: pages, the kit's Tenant, vectors. Tests say when
# one of them is stale.
generate:
	go test ./issuer -run '^TestHopMembers' -update
	go run ./plugin/testdata/gen plugin/testdata docs/hop.md
	go generate ./...
	go test ./cmd/mcpbouncer -run '^TestConfigurationDocIsCurrent$$' -update
	go test ./issuer/audit -run '^TestAuditDocIsCurrent$$' -update
	go test ./issuer/internal/pages -run '^TestStepsAreThoseOfHTMLTemplate$$' -update

# A number of inputs, not a time: Go reports a deadline that falls into an input as a failure. `go
# test -fuzz` by hand for more.
FUZZTIME ?= 20000x
fuzz:
	@.ci/fuzz $(FUZZTIME)

# Real Traefik, Dex and Yaegi, built once and cached.
tools:
	deploy/e2e/tools.sh $(if $(BIG),big)

# The plugin in Yaegi, compose labels in real Traefik, the demo, and every login on real parts; all
# of it once with each version of Traefik in deploy/e2e/traefik/versions.txt.
TRAEFIKS ?= $(shell grep -v '^\#' deploy/e2e/traefik/versions.txt)
e2e:
	cd deploy/e2e && go vet ./... && go vet -tags kubernetes,big,rolling,proxies .
	cd deploy/e2e/tflint && go test -count=1 .
	for version in $(TRAEFIKS); do \
	  (cd deploy/e2e && TRAEFIK_VERSION=$$version go test $(VETTED) -count=1 -timeout 20m $(WITH_BIG) ./...) || exit 1; \
	done
	$(MAKE) --no-print-directory demo ONCE=1

lint:
	@unformatted=$$(git ls-files --cached --others --exclude-standard '*.go' | xargs gofmt -l); [ -z "$$unformatted" ] || { echo "gofmt: $$unformatted"; exit 1; }
	go vet ./...

# What people wait for, all of it in turn; a whole run writes docs/benchmarks.md. ROWS=traefik/ is a
# part, ROUNDS=2 a short look. With BASE=main another revision runs beside this one, row by row, and
# what became slower than it may is named. At the end the tests that hold other pages against the
# results say what else is to be written anew.
BASE ?=
ROWS ?= .
ROUNDS ?= 9
bench: tools
	cd deploy/e2e && { go run ./cmd/bench -base '$(BASE)' -rows '$(ROWS)' -rounds $(ROUNDS); kept=$$?; go test -count=1 ./cmd/bench ./scale && exit $$kept; }
