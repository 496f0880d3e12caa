// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain runs the tests and looks for goroutines that none of them waited
// for. Started by a test with childEnv, it is a process that backs up and may
// be killed meanwhile.
func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnv); spec != "" {
		os.Exit(childMain(spec))
	}
	goleak.VerifyTestMain(m)
}
