// SPDX-License-Identifier: Apache-2.0

// Command fuzz runs every fuzz target of the module in turn, each for the given time: `go run ./tools/ci/fuzz 30s [package…]`.
// The go command fuzzes one target of one package at a time; this finds them. It exits with 1 after the last if any failed.
package main
