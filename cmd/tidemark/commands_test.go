// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// size reads a size argument of a script.
func size(ts *testscript.TestScript, text string) int64 {
	n, err := parseSize(text)
	ts.Check(err)
	return n
}

// noise is bytes that do not compress, the same for the same seed.
func noise(seed string, n int64) []byte {
	var key [32]byte
	copy(key[:], seed)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
	return b
}

// image FILE SIZE DATA: a sparse file with noise at its beginning.
func cmdImage(ts *testscript.TestScript, _ bool, args []string) {
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	_, err = f.Write(noise(args[0], size(ts, args[2])))
	ts.Check(errors.Join(err, f.Truncate(size(ts, args[1])), f.Close()))
}

// alter FILE OFFSET LENGTH SEED: overwrites in place.
func cmdAlter(ts *testscript.TestScript, _ bool, args []string) {
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_WRONLY, 0)
	ts.Check(err)
	_, err = f.WriteAt(noise(args[3], size(ts, args[2])), size(ts, args[1]))
	ts.Check(errors.Join(err, f.Close()))
}

// flip GLOB OFFSET: changes one byte of the largest file that matches.
func cmdFlip(ts *testscript.TestScript, _ bool, args []string) {
	found, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(found) == 0 {
		ts.Fatalf("%s matches nothing", args[0])
	}
	length := func(path string) int64 {
		st, err := os.Stat(path)
		ts.Check(err)
		return st.Size()
	}
	slices.SortFunc(found, func(a, b string) int { return int(length(b) - length(a)) })
	data, err := os.ReadFile(found[0])
	ts.Check(err)
	data[size(ts, args[1])] ^= 1
	ts.Check(os.WriteFile(found[0], data, 0o600))
}

// replace FILE OLD NEW: a piece of text.
func cmdReplace(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	if !bytes.Contains(data, []byte(args[1])) {
		ts.Fatalf("%s does not contain %q:\n%s", args[0], args[1], data)
	}
	ts.Check(os.WriteFile(path, bytes.Replace(data, []byte(args[1]), []byte(args[2]), 1), 0o600))
}

// [!] same FILE FILE: byte for byte.
func cmdSame(ts *testscript.TestScript, neg bool, args []string) {
	one, two := ts.ReadFile(args[0]), ts.ReadFile(args[1])
	if (one == two) == neg {
		ts.Fatalf("%s (%d bytes) and %s (%d bytes): same is %v", args[0], len(one), args[1], len(two), one == two)
	}
}

// sparse FILE MOST: at most so many bytes of it are allocated.
func cmdSparse(ts *testscript.TestScript, _ bool, args []string) {
	var st syscall.Stat_t
	ts.Check(syscall.Stat(ts.MkAbs(args[0]), &st))
	if st.Blocks*512 > size(ts, args[1]) {
		ts.Fatalf("%s has %d bytes allocated, more than %s", args[0], st.Blocks*512, args[1])
	}
}

// fails CODE SENTENCE ARGS…: tidemark ends with that code and one sentence on
// standard error, which the regular expression matches whole.
func cmdFails(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec("tidemark", args[2:]...)
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
	var sentences []string
	for line := range strings.Lines(ts.ReadFile("stderr")) {
		if s, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "tidemark: "); ok {
			sentences = append(sentences, s)
		}
	}
	if len(sentences) != 1 || !regexp.MustCompile("^(?:"+args[1]+")$").MatchString(sentences[0]) {
		ts.Fatalf("said %q, want one sentence matching %s", sentences, args[1])
	}
}

// shape FILE WANT: a JSON document, alone on its line, has the fields and types of WANT.
func cmdShape(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[0])
	if strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n") {
		ts.Fatalf("not one line:\n%s", text)
	}
	var v any
	ts.Check(json.Unmarshal([]byte(text), &v))
	var lines []string
	outline("", v, &lines)
	got := strings.Join(lines, "\n") + "\n"
	if want := ts.ReadFile(args[1]); got != want {
		ts.Fatalf("the document has the shape\n%s\nand not\n%s", got, want)
	}
}

// outline lists the fields of a document with their types; of an array the first element.
func outline(path string, v any, lines *[]string) {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			outline(strings.TrimPrefix(path+"."+k, "."), v[k], lines)
		}
	case []any:
		if len(v) > 0 {
			outline(path+"[]", v[0], lines)
			return
		}
		*lines = append(*lines, path+" empty")
	default:
		*lines = append(*lines, fmt.Sprintf("%s %s", path, map[bool]string{true: "number", false: fmt.Sprintf("%T", v)}[isNumber(v)]))
	}
}

func isNumber(v any) bool {
	_, ok := v.(float64)
	return ok
}

// get VARIABLE FILE PATH: puts a value of a JSON document into the environment.
// PATH is like points.0.id.
func cmdGet(ts *testscript.TestScript, _ bool, args []string) {
	var v any
	d := json.NewDecoder(strings.NewReader(ts.ReadFile(args[1])))
	d.UseNumber()
	ts.Check(d.Decode(&v))
	for key := range strings.SplitSeq(args[2], ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[key]
		case []any:
			i, err := strconv.Atoi(key)
			ts.Check(err)
			v = x[i]
		}
	}
	if v == nil {
		ts.Fatalf("%s has no %s", args[1], args[2])
	}
	ts.Setenv(args[0], fmt.Sprint(v))
}

// fifo NAME: makes the named pipes of a meeting; see misbehave.
func cmdFifo(ts *testscript.TestScript, _ bool, args []string) {
	for _, suffix := range []string{"", ".go"} {
		ts.Check(syscall.Mkfifo(ts.MkAbs(args[0]+suffix), 0o600))
	}
}

// meet NAME: waits until the program is at the meeting.
func cmdMeet(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(touch(ts.MkAbs(args[0]), os.O_RDONLY))
}

// release NAME: lets it go on.
func cmdRelease(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(touch(ts.MkAbs(args[0]+".go"), os.O_WRONLY))
}
