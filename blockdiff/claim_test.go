// SPDX-License-Identifier: Apache-2.0

package blockdiff

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestParseClaim(t *testing.T) {
	cases := []struct {
		name, in string
		want     Ranges
	}{
		{"nothing changed", " [ ] \n", nil},
		{"one", `[{"offset":0,"length":100}]`, Ranges{{0, 100}}},
		{"any order of fields and space", "[\t{ \"length\" : 5 ,\r\n \"offset\" : 7 } ]", Ranges{{7, 5}}},
		{"adjacent are joined", `[{"offset":0,"length":4},{"offset":4,"length":4},{"offset":10,"length":1}]`, Ranges{{0, 8}, {10, 1}}},
		{"rbd", `[{"offset":0,"length":4,"exists":"true"},{"offset":8,"length":4,"exists":"false"}]`, Ranges{{0, 4}, {8, 4}}},
		{"booleans", `[{"offset":0,"length":4,"exists":true},{"offset":8,"length":4,"exists":false}]`, Ranges{{0, 4}, {8, 4}}},
		{"quoted numbers", `[{"offset":"12","length":"34"}]`, Ranges{{12, 34}}},
		{"up to the end", `[{"offset":999,"length":1}]`, Ranges{{999, 1}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in))} {
				got, err := ParseClaim(r, 1000)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(c.want, got, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("want (-), got (+):\n%s", diff)
				}
			}
		})
	}
}

func TestParseClaimRefuses(t *testing.T) {
	const one = `{"offset":0,"length":4}`
	long := strings.Repeat("9", 40)
	cases := []struct{ in, want string }{
		{``, `change list, byte 0: it is empty; a list of no changes is []`},
		{`null`, `change list, byte 4: it begins with null, not with [`},
		{`{"offset":0}`, `change list, byte 1: it begins with {, not with [`},
		{`[`, `change list, byte 1: it ends before its closing ]`},
		{`[` + one, `change list, entry 1 (byte 24): the list ends in the middle`},
		{`[` + one + `,`, `change list, entry 1 (byte 25): it ends before its closing ]`},
		{`[` + one + `,]`, `change list, entry 1 (byte 26): ] stands where an entry should begin with {`},
		{`[,` + one + `]`, `change list, byte 2: , stands where an entry should begin with {`},
		{`[` + one + one + `]`, `change list, entry 1 (byte 25): { stands where , or ] should`},
		{`[` + one + `] []`, `change list, byte 27: [ follows the closing ]`},
		{`[] x`, `change list, byte 4: x follows the closing ]`},
		{`[[0,4]]`, `change list, byte 2: [ stands where an entry should begin with {`},
		{`[{}]`, `change list, entry 1 (byte 3): } stands where a field's name should`},
		{`[{"offset":0,}]`, `change list, entry 1 (byte 14): } stands where a field's name should`},
		{`[{offset:0}]`, `change list, entry 1 (byte 8): offset stands where a field's name should`},
		{`[{"offset" 0}]`, `change list, entry 1 (byte 12): 0 stands where : should`},
		{`[{"offset":`, `change list, entry 1 (byte 11): the list ends in the middle`},
		{`[{"offset"`, `change list, entry 1 (byte 10): the list ends in the middle`},
		{`[{`, `change list, entry 1 (byte 2): the list ends in the middle`},
		{`[{"off`, `change list, entry 1 (byte 6): the list ends inside a string`},
		{`[{"offset":[1]}]`, `change list, entry 1 (byte 12): the field "offset" is [, not a number`},
		{`[{"offset":""}]`, `change list, entry 1 (byte 13): the field "offset" is "", not a number`},
		{`[{"offset":1.5}]`, `change list, entry 1 (byte 14): the field "offset" is 1.5, not a whole number`},
		{`[{"offset":1e3}]`, `change list, entry 1 (byte 14): the field "offset" is 1e3, not a whole number`},
		{`[{"offset":007}]`, `change list, entry 1 (byte 14): the field "offset" is 007, not a whole number`},
		{`[{"offset":-}]`, `change list, entry 1 (byte 12): the field "offset" is -, not a whole number`},
		{`[{"offset":"0x10"}]`, `change list, entry 1 (byte 17): the field "offset" is "0x10", not a whole number`},
		{`[{"offset":-4096,"length":1}]`, `change list, entry 1 (byte 16): the field "offset" is -4096, which is negative`},
		{`[{"offset":0,"length":-1}]`, `change list, entry 1 (byte 24): the field "length" is -1, which is negative`},
		{`[{"offset":9223372036854775808}]`, `change list, entry 1 (byte 30): the field "offset" is 9223372036854775808, more than any volume has`},
		{`[{"offset":` + long + `}]`, `change list, entry 1 (byte 44): a word begins with ` + long[:32] + ` and is longer than 32 characters`},
		{`[{"` + long + `":0}]`, `change list, entry 1 (byte 36): a string begins with "` + long[:32] + `" and is longer than 32 characters`},
		{`[{"o\u0066fset":0}]`, `change list, entry 1 (byte 5): the character '\\' has no place in a string of a list`},
		{`[;]`, `change list, byte 2: the character ';' has no place in a list`},
		{`[{"offset":0,"offset":0}]`, `change list, entry 1 (byte 23): the field "offset" is there twice`},
		{`[{"offset":0,"length":1,"unit":512}]`, `change list, entry 1 (byte 34): the field "unit" is none of offset, length and exists`},
		{`[{"offset":0,"length":1,"exists":null}]`, `change list, entry 1 (byte 37): the field "exists" is null, not true or false`},
		{`[{"length":1}]`, `change list, entry 1 (byte 13): it has no offset`},
		{`[{"offset":1}]`, `change list, entry 1 (byte 13): it has no length`},
		{`[{"offset":5,"length":0}]`, `change list, entry 1 (byte 24): the range at 5 has no bytes`},
		{`[{"offset":1000,"length":1}]`, `change list, entry 1 (byte 27): 1 bytes from 1000 reach beyond the volume's end at 1000`},
		{`[{"offset":999,"length":9223372036854775807}]`, `change list, entry 1 (byte 44): 9223372036854775807 bytes from 999 reach beyond the volume's end at 1000`},
		{`[{"offset":50,"length":10},{"offset":20,"length":10}]`, `change list, entry 2 (byte 52): the range at 20 lies before the end of the one before at 60: the list must ascend`},
		{`[{"offset":50,"length":10},{"offset":59,"length":10}]`, `change list, entry 2 (byte 52): the range at 59 overlaps the one before, which ends at 60`},
	}
	for _, c := range cases {
		got, err := ParseClaim(strings.NewReader(c.in), 1000)
		var claim *ClaimError
		if !errors.As(err, &claim) || err.Error() != c.want {
			t.Errorf("%s\n got %v, %v\nwant %s", c.in, got, err, c.want)
		}
		if got != nil {
			t.Errorf("%s: ranges came with the error: %v", c.in, got)
		}
	}
}

// TestParseClaimPassesReadErrors: a broken pipe is not the list's fault.
func TestParseClaimPassesReadErrors(t *testing.T) {
	broken := errors.New("broken pipe")
	const list = `[{"offset":12,"length":34}]`
	for n := range len(list) + 1 {
		_, err := ParseClaim(io.MultiReader(strings.NewReader(list[:n]), iotest.ErrReader(broken)), 1000)
		var claim *ClaimError
		if !errors.Is(err, broken) || errors.As(err, &claim) {
			t.Errorf("broken after %d bytes: got %v", n, err)
		}
	}
}

func TestClaimRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Normalize(drawUnsorted(t, "ranges"))
		var b bytes.Buffer
		if err := WriteClaim(&b, want); err != nil {
			t.Fatal(err)
		}
		got, err := ParseClaim(&b, world)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("written (-), read (+):\n%s", diff)
		}
	})
}

func TestWriteClaimReportsTheWriter(t *testing.T) {
	full := errors.New("full")
	r, w := io.Pipe()
	r.CloseWithError(full)
	if err := WriteClaim(w, Ranges{{0, 1}}); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}

// FuzzParseClaim: no panic, and what is accepted satisfies the rules and survives being written.
func FuzzParseClaim(f *testing.F) {
	for _, seed := range []string{
		`[]`, `[{"offset":0,"length":4},{"offset":4,"length":4}]`, `[{"offset":"8","length":4,"exists":"false"}]`,
		`[{"length":18446744073709551615,"offset":-1}]`, `[{"offset":0,"length":1,"exists":true}`,
	} {
		f.Add([]byte(seed), int64(4096))
	}
	f.Fuzz(func(t *testing.T, in []byte, size int64) {
		got, err := ParseClaim(bytes.NewReader(in), size)
		if err != nil {
			var claim *ClaimError
			if !errors.As(err, &claim) || strings.ContainsAny(err.Error(), "\n") {
				t.Fatalf("not one sentence: %q", err)
			}
			return
		}
		if !got.Normalized() || len(got.Subtract(Ranges{{0, max(size, 0)}})) > 0 {
			t.Fatalf("accepted %v of %d bytes", got, size)
		}
		var b bytes.Buffer
		if err := WriteClaim(&b, got); err != nil {
			t.Fatal(err)
		}
		again, err := ParseClaim(&b, size)
		if diff := cmp.Diff(got, again, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Fatalf("%v\n%s", err, diff)
		}
	})
}

func BenchmarkParseClaim(b *testing.B) {
	var list bytes.Buffer
	list.WriteByte('[')
	for i := range 100_000 {
		if i > 0 {
			list.WriteByte(',')
		}
		fmt.Fprintf(&list, `{"offset":%d,"length":8192,"exists":"true"}`, int64(i)*65536)
	}
	list.WriteByte(']')
	b.SetBytes(int64(list.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseClaim(bytes.NewReader(list.Bytes()), 1<<40); err != nil {
			b.Fatal(err)
		}
	}
}
