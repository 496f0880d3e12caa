# Every target is one line; whatever is longer is a Go program under tools/ci. `make` alone lists them.

PKG ?= ./...
FUZZTIME ?= 30s
TOOL := go run ./tools/ci/tool

.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' Makefile

build: ## static binaries into bin/
	CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/...

demo: build ## full backup, changes, incremental, verify, restore: under a minute, no root
	bin/tidemark demo

test: setup ## all tests with the race detector (PKG=./mover for one package)
	$(TOOL) gotestsum --format pkgname-and-test-fails --format-hide-empty-pkg --jsonfile .cache/test.jsonl -- -race -timeout 10m $(PKG)

race: test ## the same

allocs: ## tests named …Alloc…, without the race detector, which allocates by itself
	go test -run Alloc $(PKG)

fuzz: ## every fuzz target in turn, FUZZTIME each (30s)
	go run ./tools/ci/fuzz $(FUZZTIME) $(PKG)

lint: ## linters, vet, format, go.mod, tree hygiene, generated files
	go run ./tools/ci/run lint

fmt: ## format all Go code
	$(TOOL) golangci-lint fmt

bench: build ## benchmarks beside the code, then the engine against its yardsticks
	go test -run '^$$' -bench . -benchmem $(PKG) && go run ./tools/bench

generate: ## run all generators
	go generate ./...

verify-generate: ## fail if a generator would change a file
	go run ./tools/ci/generated

tidy: ## go.mod and go.sum of every module
	go mod tidy && go -C tools/pinned mod tidy && go -C tools/servers mod tidy

cover: setup ## statement coverage by function, the total last
	go test -coverpkg=./... -coverprofile .cache/cover.out $(PKG) && go tool cover -func .cache/cover.out

setup: | .cache ## what tests need of a bare Debian: packages (as root), an S3 server
	go run ./tools/ci/setup

install-tools: ## build every pinned tool into the user's cache
	$(TOOL)

clean: ## remove what these targets made in the work tree
	rm -rf bin dist .cache

.cache:
	mkdir -p .cache

.PHONY: help build demo test race allocs fuzz lint fmt bench generate verify-generate tidy cover setup install-tools clean
