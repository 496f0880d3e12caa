// SPDX-License-Identifier: Apache-2.0

// Package pinned turns the name of a development tool into a binary of the version this repository asks for.
//
// Versions live in the go.mod files of the modules beside it (tools/pinned for what checks the code, tools/servers for what
// tests talk to), as tool directives, so that none of their dependencies reaches the product's go.mod. `go tool -modfile=…`
// runs them too; this package exists because building the largest takes minutes of a small machine and the go command keeps
// linked tools only as long as its build cache does. Binaries stand in the user's cache directory:
//
//	<user cache>/tidemark-tools/<name>-<version>-<go version>
//
// Invariants:
//
//	T1  A binary appears under its final name whole: it is built beside and renamed.
//	T2  A name holds the tool's and the compiler's version, so it never has to be refreshed. (A linter built by an older
//	    compiler refuses newer code.)
//	T3  Two processes that want the same tool build it once: the builder holds a file lock.
//
// Start at [Path].
package pinned
