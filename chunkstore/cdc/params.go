// SPDX-License-Identifier: Apache-2.0

package cdc

import (
	"fmt"

	"github.com/restic/chunker"
)

// Kind says how cuts are found.
type Kind string

// The kinds of cutting.
const (
	Rabin   Kind = "rabin"
	Aligned Kind = "aligned"
)

// Default parameters, chosen by measurement: docs/decisions/0003-chunking-defaults.md.
const (
	DefaultBits = 18
	DefaultMin  = 256 << 10
	DefaultMax  = 1 << 20
)

// PageSize is the unit of the aligned kind.
const PageSize = 4 << 10

const (
	pageBits  = 12
	rabinMin  = 64 // the fingerprint's window: below it a cut would depend on bytes before the chunk
	maxChunk  = 8 << 20
	maxBits   = 30
	rabinBits = 6 // fewer make no sense with a window of 64 bytes
	polDegree = 53
)

// Params decide where cuts fall. They are part of a repository's configuration: two repositories with equal
// parameters cut equal content equally.
type Params struct {
	Kind       Kind        `json:"kind"`
	Polynomial chunker.Pol `json:"-"` // rabin only; derived from the repository's keys, so never written down
	Bits       int         `json:"bits"`
	Min        int         `json:"min"`
	Max        int         `json:"max"`
}

// Default returns the parameters of a new repository.
func Default(pol chunker.Pol) Params {
	return Params{Kind: Rabin, Polynomial: pol, Bits: DefaultBits, Min: DefaultMin, Max: DefaultMax}
}

// Validate says in one sentence what is wrong. Scanners and Stitchers are made of valid parameters only.
func (p *Params) Validate() error {
	switch p.Kind {
	case Rabin:
		return p.validateRabin()
	case Aligned:
		return p.validateAligned()
	}
	return fmt.Errorf("chunking kind %q is unknown: it is %q or %q", p.Kind, Rabin, Aligned)
}

func (p *Params) validateRabin() error {
	if p.Bits < rabinBits || p.Bits > maxBits {
		return fmt.Errorf("chunking bits %d are outside %d to %d", p.Bits, rabinBits, maxBits)
	}
	if p.Min < rabinMin {
		return fmt.Errorf("smallest chunk of %d bytes is below %d", p.Min, rabinMin)
	}
	if p.Polynomial.Deg() != polDegree || !p.Polynomial.Irreducible() {
		// The polynomial is a secret: it is not repeated here.
		return fmt.Errorf("chunking polynomial is not an irreducible one of degree %d", polDegree)
	}
	return p.validateMax()
}

func (p *Params) validateAligned() error {
	if p.Bits < pageBits || p.Bits > maxBits {
		return fmt.Errorf("chunking bits %d are outside %d to %d", p.Bits, pageBits, maxBits)
	}
	if p.Min < PageSize || p.Min%PageSize != 0 || p.Max%PageSize != 0 {
		return fmt.Errorf("smallest and largest chunk of %d and %d bytes are not whole pages of %d", p.Min, p.Max, PageSize)
	}
	return p.validateMax()
}

func (p *Params) validateMax() error {
	if p.Max < p.Min || p.Max > maxChunk {
		return fmt.Errorf("largest chunk of %d bytes is outside %d (the smallest) to %d", p.Max, p.Min, maxChunk)
	}
	return nil
}
