// SPDX-License-Identifier: Apache-2.0

package tidemark_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/tidemark-io/tidemark"

// An arrow says what packages must not import, directly or through others. Paths are relative to the module unless they begin with a host.
// depguard (.golangci.yml) says the same of direct imports, at the line that has them; this sees the way round.
type arrow struct {
	from, never string
	but         []string // packages below never that from may import
	why         string
}

var arrows = []arrow{
	{from: "", never: "cmd", why: "commands wire packages; nothing imports upwards"},
	{from: "chunkstore", never: "mover", why: "the store does not know who moves bytes"},
	{from: "chunkstore", never: "blockdiff", why: "the store does not know where a volume's ranges come from"},
	{from: "chunkstore", never: "blockio", why: "the store does not know devices"},
	{from: "chunkstore", never: "k8s.io", why: "the store works without Kubernetes"},
	{from: "blockdiff", never: "chunkstore", why: "range algebra knows nothing of chunks"},
	{from: "blockdiff", never: "blockio", why: "claims are data, whatever device they speak of"},
	{from: "blockdiff", never: "mover", why: "nothing imports upwards"},
	{from: "blockdiff", never: "k8s.io", why: "blockdiff works without Kubernetes"},
	{from: "blockio", never: "chunkstore", why: "devices know nothing of chunks"},
	{from: "blockio", never: "mover", why: "nothing imports upwards"},
	{from: "", never: "sigs.k8s.io", why: "the engine works without Kubernetes"},
	{from: "", never: "k8s.io", but: []string{"k8s.io/mount-utils", "k8s.io/klog", "k8s.io/utils"}, why: "the engine works without Kubernetes; mount-utils tells what is mounted and brings the other two"},

	{from: "chunkstore/chunk", never: "chunkstore", but: []string{"chunkstore/chunk"}, why: "names and digests are the bottom"},
	{from: "chunkstore/seal", never: "chunkstore", but: []string{"chunkstore/seal", "chunkstore/chunk"}, why: "keys stand under every format"},
	{from: "chunkstore/pack", never: "chunkstore", but: []string{"chunkstore/pack", "chunkstore/seal", "chunkstore/chunk"}, why: "a pack is read without an index, a map or a repository"},
	{from: "chunkstore/index", never: "chunkstore", but: []string{"chunkstore/index", "chunkstore/pack", "chunkstore/seal", "chunkstore/chunk"}, why: "an index is built from packs alone"},
	{from: "chunkstore/imagemap", never: "chunkstore", but: []string{"chunkstore/imagemap", "chunkstore/seal", "chunkstore/chunk"}, why: "a map names chunks; where they lie is the index's business"},
	{from: "chunkstore/cdc", never: "chunkstore", but: []string{"chunkstore/cdc"}, why: "cutting sees bytes only"},
	{from: "chunkstore/objstore", never: "chunkstore", but: []string{"chunkstore/objstore"}, why: "object storage sees names and bytes only"},
	{from: "chunkstore/pack", never: "net/http", why: "formats do not speak to a network"},
	{from: "chunkstore/index", never: "net/http", why: "formats do not speak to a network"},
	{from: "chunkstore/imagemap", never: "net/http", why: "formats do not speak to a network"},
	{from: "chunkstore/seal", never: "net", why: "keys stay in the process"},
}

func TestArrows(t *testing.T) {
	for _, b := range breaches(arrows, dependencies(t)) {
		t.Error(b)
	}
}

// breaches returns a sentence for each import in deps (package → all it reaches) that an arrow forbids.
func breaches(arrows []arrow, deps map[string][]string) []string {
	var found []string
	for _, a := range arrows {
		from, never := absolute(a.from), absolute(a.never)
		for pkg, reached := range deps {
			if !within(pkg, from) || within(pkg, never) && !within(from, never) {
				continue
			}
			for _, dep := range reached {
				if within(dep, never) && !allowed(dep, a.but) {
					found = append(found, fmt.Sprintf("%s imports %s (perhaps through others): %s", pkg, dep, a.why))
				}
			}
		}
	}
	return found
}

func allowed(dep string, but []string) bool {
	for _, b := range but {
		if within(dep, absolute(b)) {
			return true
		}
	}
	return false
}

// within reports whether pkg is dir or below it.
func within(pkg, dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }

// absolute completes a path relative to the module. The first element of any other tells: a host has a dot, the standard library is spelled out.
func absolute(p string) string {
	host, _, _ := strings.Cut(p, "/")
	switch {
	case p == "":
		return module
	case strings.Contains(host, "."), host == "net":
		return p
	}
	return module + "/" + p
}

// dependencies returns, for each package of the module, all it imports, directly or not; tests and tools excepted.
func dependencies(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Deps", "./...").Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	deps := map[string][]string{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Deps       []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if !within(p.ImportPath, module+"/tools") {
			deps[p.ImportPath] = p.Deps
		}
	}
	if len(deps) < 3 {
		t.Fatalf("go list found only %d packages: this test would say nothing", len(deps))
	}
	return deps
}

func TestBreaches(t *testing.T) {
	tests := []struct {
		name, pkg, imports string
		want               int
	}{
		{"downwards", module + "/mover", module + "/chunkstore/pack", 0},
		{"upwards", module + "/chunkstore", module + "/mover", 1},
		{"a command within itself", module + "/cmd/tidemark", module + "/cmd/tidemark/progress", 0},
		{"a command from below", module + "/mover", module + "/cmd/tidemark", 1},
		{"a part that knows the whole", module + "/chunkstore/cdc", module + "/chunkstore", 1},
		{"a part that knows its neighbour", module + "/chunkstore/imagemap", module + "/chunkstore/index", 1},
		{"a part below a part", module + "/chunkstore/objstore/open", module + "/chunkstore/objstore/s3", 0},
		{"a name that only begins alike", module + "/blockdiff", module + "/chunkstorefront", 0},
		{"Kubernetes", module + "/blockio", "k8s.io/client-go/rest", 1},
		{"mount-utils", module + "/blockio", "k8s.io/mount-utils", 0},
		{"a network under a format", module + "/chunkstore/pack", "net/http", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := breaches(arrows, map[string][]string{tt.pkg: {tt.imports}})
			if len(got) != tt.want {
				t.Errorf("breaches: %q, want %d", got, tt.want)
			}
		})
	}
}
