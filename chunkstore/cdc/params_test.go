// SPDX-License-Identifier: Apache-2.0

package cdc

import (
	"testing"

	"github.com/restic/chunker"
)

func TestValidate(t *testing.T) {
	rabin := func(change func(*Params)) Params {
		p := Default(testPol)
		change(&p)
		return p
	}
	aligned := func(change func(*Params)) Params {
		p := Default(0)
		p.Kind = Aligned
		change(&p)
		return p
	}
	cases := []struct {
		name string
		p    Params
		want string // empty: valid
	}{
		{"default", rabin(func(*Params) {}), ""},
		{"aligned", aligned(func(*Params) {}), ""},
		{"smallest of all", Params{Rabin, testPol, 6, 64, 64}, ""},
		{"kind", Params{Kind: "fixed"}, `chunking kind "fixed" is unknown: it is "rabin" or "aligned"`},
		{"no bits", rabin(func(p *Params) { p.Bits = 0 }), "chunking bits 0 are outside 6 to 30"},
		{"too many bits", rabin(func(p *Params) { p.Bits = 31 }), "chunking bits 31 are outside 6 to 30"},
		{"below the window", rabin(func(p *Params) { p.Min = 63 }), "smallest chunk of 63 bytes is below 64"},
		{"max below min", rabin(func(p *Params) { p.Max = p.Min - 1 }), "largest chunk of 262143 bytes is outside 262144 (the smallest) to 8388608"},
		{"max above all", rabin(func(p *Params) { p.Max = 8<<20 + 1 }), "largest chunk of 8388609 bytes is outside 262144 (the smallest) to 8388608"},
		{"no polynomial", rabin(func(p *Params) { p.Polynomial = 0 }), "chunking polynomial is not an irreducible one of degree 53"},
		{"reducible", rabin(func(p *Params) { p.Polynomial = 1 << 53 }), "chunking polynomial is not an irreducible one of degree 53"},
		{"small degree", rabin(func(p *Params) { p.Polynomial = chunker.Pol(7) }), "chunking polynomial is not an irreducible one of degree 53"},
		{"aligned bits", aligned(func(p *Params) { p.Bits = 11 }), "chunking bits 11 are outside 12 to 30"},
		{"aligned min", aligned(func(p *Params) { p.Min++ }), "smallest and largest chunk of 262145 and 1048576 bytes are not whole pages of 4096"},
		{"aligned without min", aligned(func(p *Params) { p.Min = 0 }), "smallest and largest chunk of 0 and 1048576 bytes are not whole pages of 4096"},
		{"aligned max", aligned(func(p *Params) { p.Max-- }), "smallest and largest chunk of 262144 and 1048575 bytes are not whole pages of 4096"},
		{"aligned order", aligned(func(p *Params) { p.Max = 4096 }), "largest chunk of 4096 bytes is outside 262144 (the smallest) to 8388608"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			if err := c.p.Validate(); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got %q\nwant %q", got, c.want)
			}
		})
	}
}
