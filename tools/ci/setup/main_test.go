// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLacking(t *testing.T) {
	root := t.TempDir()
	for _, f := range []string{"usr/sbin/mkfs.xfs", "usr/bin/xfs_repair", "usr/lib/postgresql/15/bin/initdb", "usr/include/stdlib.h"} {
		path := filepath.Join(root, f)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	all := []need{
		{pkg: "xfsprogs", files: bins("mkfs.xfs", "xfs_repair")},
		{pkg: "libc6-dev", files: []string{"/usr/include/stdlib.h"}},
		{pkg: "postgresql", files: []string{"/usr/lib/postgresql/*/bin/initdb", "/usr/lib/postgresql/*/bin/pgbench"}},
		{pkg: "jq", files: bins("jq")},
	}
	var got []string
	for _, n := range lacking(all, root) {
		got = append(got, n.pkg)
	}
	if diff := cmp.Diff([]string{"postgresql", "jq"}, got); diff != "" {
		t.Errorf("lacking (-want +got):\n%s", diff)
	}
}
