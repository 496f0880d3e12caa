// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tidemark-io/tidemark/blockio/looptest"
)

// TestDeviceScripts runs on block devices, which needs root.
func TestDeviceScripts(t *testing.T) {
	looptest.RequireRoot(t)
	const size = 8 << 20
	file := looptest.SparseFile(t, size)
	if err := os.WriteFile(file, append(noise("device", size/2), make([]byte, size/2)...), 0o600); err != nil {
		t.Fatal(err)
	}
	_, mounted := looptest.MountedFS(t, "ext4", 2*size)
	p := params("testdata/device", nil)
	setup := p.Setup
	p.Setup = func(env *testscript.Env) error {
		env.Setenv("DEVICE", looptest.Attach(t, file))
		env.Setenv("TARGET", looptest.Attach(t, looptest.SparseFile(t, 2*size)))
		env.Setenv("SMALL", looptest.Attach(t, looptest.SparseFile(t, size/2)))
		env.Setenv("BAD", looptest.Attach(t, looptest.FailingFile(t, size, []looptest.Range{{Offset: 1 << 20, Length: 8192}})))
		env.Setenv("MOUNTED", mounted)
		return setup(env)
	}
	testscript.Run(t, p)
}
