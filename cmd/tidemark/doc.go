// SPDX-License-Identifier: Apache-2.0

// Command tidemark backs up block devices and raw images into a repository, and
// gives every bit back. It is wiring: flags in, one call of package mover or
// chunkstore, one report out. docs/cli.md is its reference.
//
// Rules that every command keeps:
//
//   - U1: standard output is data only: a summary, a table, one JSON document,
//     or the volume itself. Progress, notes and errors go to standard error.
//   - U2: an error is one sentence, "tidemark: …", with a line "hint: …" where a
//     next command helps. Under --json it is also one object on standard output,
//     unless data was written there already.
//   - U3: exit codes are those of docs/cli.md; explain (explain.go) alone
//     decides which error has which.
//   - U4: a passphrase comes from a file, the environment or a terminal, never
//     from the command line.
//   - U5: SIGINT and SIGTERM end a command through its context; what was stored
//     stays, and the next run goes on from there. A second signal kills.
//   - U6: bytes are exact in JSON and rounded for people, in units of 1024.
//
// Start at main.go, then root.go; each command has a file of its own.
package main
