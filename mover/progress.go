// SPDX-License-Identifier: Apache-2.0

package mover

import "sync/atomic"

// Progress is what a run tells while it goes on; whoever shows it polls. All
// figures are bytes and only grow within a phase. The zero value is ready.
type Progress struct {
	phase atomic.Pointer[string]
	total atomic.Int64 // to read or write in this phase
	read  atomic.Int64
	done  atomic.Int64 // position in the volume up to which everything is mapped
	out   atomic.Int64 // shipped or written
}

// Phase is what is being done, for people: "reading", "comparing", ….
func (p *Progress) Phase() string {
	if s := p.phase.Load(); s != nil {
		return *s
	}
	return ""
}

// Total is how many bytes the phase has to move; 0 while that is unknown.
func (p *Progress) Total() int64 { return p.total.Load() }

// In is how many of them were read, Out how many bytes went to the other side.
func (p *Progress) In() int64 { return p.read.Load() }

// Out is how many bytes went to the repository or the target.
func (p *Progress) Out() int64 { return p.out.Load() }

func (p *Progress) enter(phase string, total int64) {
	p.total.Store(total)
	p.read.Store(0)
	p.phase.Store(&phase)
}
