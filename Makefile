# What people type. `make test` is all that CI runs (.ci/run calls it).

GO      ?= go
TOOL     = $(GO) tool -modfile=.ci/tools.mod
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  = -s -w -X main.version=$(VERSION)
FUZZTIME ?= 10s

.PHONY: build test packages objectstore lint unit gates stories fuzz golden bench cover repro demo dev ui

build: ## both programs into bin/, static
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/ ./cmd/drawbolt ./cmd/drawboltd

demo: build ## the main job, once, for real, on loopback
	bin/drawboltd demo

dev: build ## the demo's servers without the story
	bin/drawboltd demo --no-story

test: packages objectstore lint build unit gates stories fuzz repro ## everything

packages: ## install what the tests need, or name it
	./.ci/packages

objectstore: ## compile the object store of the tests, once; takes minutes
	$(GO) tool -n -modfile=.ci/objectstore.mod versitygw

lint: ## gofmt, vet, staticcheck, go.mod
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) mod tidy -diff
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	GOOS=darwin GOARCH=arm64 CGO_ENABLED=0 $(GO) build -o /dev/null ./cmd/drawbolt
	GOOS=windows GOARCH=amd64 CGO_ENABLED=0 $(GO) build -o /dev/null ./cmd/drawbolt

# SQLite is C that was translated: what it does with its memory is its own, and to
# watch that takes several times as long as all else.
RACE = -race -gcflags=modernc.org/sqlite/lib=-race=false

unit: ## every package's tests with the race detector
	$(GO) test $(RACE) -timeout 40m $$($(GO) list ./... | grep -v '/test$$')
	[ "$$($(GO) env CGO_ENABLED)" = 0 ] || { $(GO) vet -tags pkcs11 ./vault/keeper ./cmd/drawboltd ./test && $(GO) test -tags pkcs11 -run PKCS11 ./vault/keeper ./test; }

gates: ## limits on what a session costs; without the race detector
	$(GO) test -count=1 -run Gates ./test/bench

stories: build ## the real programs against real servers
	$(GO) test -timeout 30m ./test

fuzz: ## each fuzz test for FUZZTIME
	./.ci/fuzz $(FUZZTIME)

golden: ## rewrite the golden files
	UPDATE_GOLDEN=1 $(GO) test ./...

bench: build ## beside what people run otherwise; see docs/performance.md
	./test/bench/run

cover:
	$(GO) test -coverprofile=/tmp/drawbolt.cover ./... && $(GO) tool cover -func=/tmp/drawbolt.cover | tail -1

repro: ## two builds give the same bytes
	./.ci/repro

ui: ## the style sheet and the scripts, after a change of web/ui/assets (needs npm)
	web/ui/assets/build.sh
	$(TOOL) templ generate -path web/ui
