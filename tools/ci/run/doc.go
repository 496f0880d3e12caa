// SPDX-License-Identifier: Apache-2.0

// Command run is the whole continuous integration of this repository, the same on a laptop as anywhere else:
//
//	go run ./tools/ci/run          every step
//	go run ./tools/ci/run lint     the steps of one group, or of one name
//
// Each step runs whatever became of those before it, so one run tells everything that is wrong. A closing table gives each step's
// result and time and why a step was skipped; after it come the tests that failed or skipped. The exit code is 1 if any step failed.
//
// Start at [steps] for what is run, at [execute] for how.
package main
