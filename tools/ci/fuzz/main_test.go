// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseList(t *testing.T) {
	const events = `{"Action":"start","Package":"m/a"}
{"Action":"output","Package":"m/a","Output":"FuzzDecode\n"}
{"Action":"output","Package":"m/a","Output":"ok  \tm/a\t0.01s\n"}
{"Action":"output","Package":"m/b","Output":"?   \tm/b\t[no test files]\n"}
{"Action":"output","Package":"m/c","Output":"FuzzOpen\n"}
`
	got, err := parseList([]byte(events))
	if err != nil {
		t.Fatal(err)
	}
	want := []target{{"m/a", "FuzzDecode"}, {"m/c", "FuzzOpen"}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(target{})); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
	if _, err := parseList([]byte("{")); err == nil {
		t.Error("a list that was cut short was accepted")
	}
}
