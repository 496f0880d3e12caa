// SPDX-License-Identifier: Apache-2.0

package blockdiff

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCut(t *testing.T) {
	rs := Ranges{{Offset: 3, Length: 2}, {Offset: 6, Length: 12}, {Offset: 24, Length: 8}}
	var got Ranges
	err := rs.Cut(8, func(r Range) error {
		got = append(got, r)
		return nil
	})
	want := Ranges{{3, 2}, {6, 2}, {8, 8}, {16, 2}, {24, 8}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	stop := errors.New("stop")
	calls := 0
	if err := rs.Cut(8, func(Range) error { calls++; return stop }); !errors.Is(err, stop) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}
