// SPDX-License-Identifier: Apache-2.0

// Command tool runs a development tool at its pinned version: `go run ./tools/ci/tool golangci-lint run ./...`.
// Without arguments it builds every pinned tool and lists them.
package main
