// SPDX-License-Identifier: Apache-2.0

// Command setup brings what `make test` needs to a bare Debian or Ubuntu machine: system packages, and the programs that tests talk
// to. It installs only what is missing, only as root, and says what is missing otherwise: tests that need it skip with that
// reason.
package main
