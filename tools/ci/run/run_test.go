// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSummarize(t *testing.T) {
	const events = `{"Action":"start","Package":"m/a"}
{"Action":"run","Package":"m/a","Test":"TestGood"}
{"Action":"pass","Package":"m/a","Test":"TestGood","Elapsed":0.5}
{"Action":"output","Package":"m/a","Test":"TestRoot","Output":"    a_test.go:7: needs root\n"}
{"Action":"output","Package":"m/a","Test":"TestRoot","Output":"--- SKIP: TestRoot (0.00s)\n"}
{"Action":"skip","Package":"m/a","Test":"TestRoot"}
{"Action":"pass","Package":"m/a","Elapsed":1.5}
{"Action":"output","Package":"m/b","Test":"TestBad","Output":"    b_test.go:9: read 3 bytes, want 4\n"}
{"Action":"fail","Package":"m/b","Test":"TestBad","Elapsed":0.1}
{"Action":"fail","Package":"m/b","Elapsed":2.5}
{"Action":"fail","Package":"m/c","Elapsed":0}
{"Action":"skip","Package":"m/d","Elapsed":0}
`
	got, err := summarize(strings.NewReader(events))
	if err != nil {
		t.Fatal(err)
	}
	want := summary{
		packages: 3,
		passed:   1,
		failed:   []outcome{{"m/b", "TestBad", "read 3 bytes, want 4", 0.1}, {"m/c", "", "the package failed as a whole", 0}},
		skipped:  []outcome{{"m/a", "TestRoot", "needs root", 0}},
		slowest:  []outcome{{"m/b", "", "", 2.5}, {"m/a", "", "", 1.5}, {"m/c", "", "", 0}},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(summary{}, outcome{})); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
}

func TestExecute(t *testing.T) {
	expired, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	touched := filepath.Join(t.TempDir(), "touched")
	tests := []struct {
		name string
		ctx  context.Context
		step step
		want string
	}{
		{"a command that succeeds", t.Context(), step{commands: [][]string{{"true"}}}, "ok"},
		{"nothing after the first failure", t.Context(), step{commands: [][]string{{"false"}, {"touch", touched}}}, "FAILED"},
		{"a silent tool that lists something", t.Context(), step{silent: true, commands: [][]string{{"echo", "a.go"}}}, "FAILED"},
		{"a silent tool that lists nothing", t.Context(), step{silent: true, commands: [][]string{{"true"}}}, "ok"},
		{"a program that is not there", t.Context(), step{commands: [][]string{{"/nonexistent/program"}}}, "FAILED"},
		{"standard input is empty", t.Context(), step{silent: true, commands: [][]string{{"cat"}}}, "ok"},
		{"its environment", t.Context(), step{env: []string{"A=b"}, commands: [][]string{{"sh", "-c", "test $A = b"}}}, "ok"},
		{"skipped", t.Context(), step{skip: func() string { return "no reason" }, commands: [][]string{{"false"}}}, "skipped"},
		{"out of time, children too", expired, step{commands: [][]string{{"sh", "-c", "sleep 600 & wait"}}}, "FAILED"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := execute(tt.ctx, tt.step).String(); !strings.HasPrefix(got, tt.want) {
				t.Errorf("result is %q, want %s", got, tt.want)
			}
		})
	}
	if _, err := os.Stat(touched); !errors.Is(err, os.ErrNotExist) {
		t.Error("a command ran after one that failed")
	}
}

func TestChoose(t *testing.T) {
	all := []step{{name: "vet", group: "lint"}, {name: "format", group: "lint"}, {name: "test"}}
	tests := []struct {
		names []string
		want  string
	}{
		{nil, "vet format test"},
		{[]string{"lint"}, "vet format"},
		{[]string{"test", "format"}, "format test"},
	}
	for _, tt := range tests {
		chosen, err := choose(all, tt.names)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, s := range chosen {
			names = append(names, s.name)
		}
		if got := strings.Join(names, " "); got != tt.want {
			t.Errorf("choose(%v) = %s, want %s", tt.names, got, tt.want)
		}
	}
	if _, err := choose(all, []string{"lint", "tset"}); err == nil {
		t.Error("a step that does not exist was accepted")
	}
}
