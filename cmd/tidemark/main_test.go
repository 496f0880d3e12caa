// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tidemark-io/tidemark/chunkstore/objstore/s3test"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"tidemark": func() {
			testOnlyKDF = seal.KDF{Time: 1, MemoryKiB: 64, Threads: 1}
			testOnlyWrap = misbehave
			main()
		},
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, params("testdata", nil))
}

// TestS3Scripts runs against a real server.
func TestS3Scripts(t *testing.T) {
	testscript.Run(t, params("testdata/s3", s3test.Start(t)))
}

func params(dir string, server *s3test.Server) testscript.Params {
	return testscript.Params{
		Dir: dir,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("TZ", "UTC")
			env.Setenv("TMPDIR", env.WorkDir)
			env.Setenv("TIDEMARK_REPO", env.WorkDir+"/repo")
			env.Setenv("TIDEMARK_CACHE_DIR", env.WorkDir+"/cache")
			env.Setenv("TIDEMARK_PASSWORD", "correct horse")
			if server != nil {
				env.Vars = append(env.Vars, server.Env()...)
				env.Setenv("TIDEMARK_REPO", server.URL("cli"))
			}
			return os.Mkdir(env.WorkDir+"/empty", 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"image":   cmdImage,
			"alter":   cmdAlter,
			"flip":    cmdFlip,
			"replace": cmdReplace,
			"same":    cmdSame,
			"sparse":  cmdSparse,
			"fails":   cmdFails,
			"shape":   cmdShape,
			"get":     cmdGet,
			"fifo":    cmdFifo,
			"meet":    cmdMeet,
			"release": cmdRelease,
		},
		Condition: func(name string) (bool, error) {
			if name != "root" {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			return os.Geteuid() == 0, nil
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	}
}
