// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"time"
)

// gauge is what a run tells of itself; mover.Progress is one.
type gauge interface {
	Phase() string
	Total() int64
	In() int64
	Out() int64
}

const (
	drawEvery  = 250 * time.Millisecond
	lineEvery  = 30 * time.Second
	lineAtMost = 5 * time.Second // between lines for another tenth
	rateWindow = 8 * time.Second
)

// progress shows a gauge until stop is called: on a terminal one line drawn
// again, elsewhere plain lines now and then.
type progress struct {
	gauge   gauge
	console *console
	samples []sample // of the last rateWindow, oldest first, all of one phase

	said  time.Time // when the last plain line was printed
	line  string    // what it was
	tenth int64     // which tenth of the phase it told of
	phase string
}

// sample is where the gauge stood at a time.
type sample struct {
	at      time.Time
	in, out int64
}

// showProgress starts the display; the function it returns ends it and waits.
func showProgress(a *app, g gauge) (stop func()) {
	if a.quiet || a.noProgress {
		return func() {}
	}
	p := &progress{gauge: g, console: a.console}
	return p.start()
}

func (p *progress) start() (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() { // ends with stop, which waits
		defer close(done)
		tick := time.NewTicker(drawEvery)
		defer tick.Stop()
		for {
			select {
			case now := <-tick.C:
				p.update(now)
			case <-quit:
				p.end(time.Now())
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// update shows where the gauge stands, if it is time to.
func (p *progress) update(now time.Time) {
	phase := p.gauge.Phase()
	if phase == "" {
		return
	}
	fresh := phase != p.phase
	if fresh {
		p.phase, p.samples, p.tenth = phase, p.samples[:0], 0
	}
	p.take(now)
	text := p.text()
	if p.console.terminal {
		p.console.draw(text)
		return
	}
	last, total := p.samples[len(p.samples)-1], p.gauge.Total()
	tenth := int64(0)
	if total > 0 {
		tenth = 10 * last.in / total
	}
	waited := now.Sub(p.said)
	if fresh || waited >= lineEvery || tenth > p.tenth && waited >= lineAtMost {
		p.console.note(text)
		p.said, p.line, p.tenth = now, text, tenth
	}
}

// end takes the drawn line away, or prints the last plain one.
func (p *progress) end(now time.Time) {
	if p.console.terminal {
		p.console.draw("")
		return
	}
	if p.gauge.Phase() == "" {
		return
	}
	if phase := p.gauge.Phase(); phase != p.phase {
		p.phase, p.samples = phase, nil
	}
	p.take(now)
	if text := p.text(); text != p.line {
		p.console.note(text)
	}
}

// take adds a sample and drops those that are too old to tell a rate.
func (p *progress) take(now time.Time) {
	s := sample{at: now, in: p.gauge.In(), out: p.gauge.Out()}
	if n := len(p.samples); n > 0 && s.in < p.samples[n-1].in {
		p.samples = p.samples[:0] // a new phase began between two looks
	}
	p.samples = append(p.samples, s)
	old := 0
	for old < len(p.samples)-2 && now.Sub(p.samples[old].at) > rateWindow {
		old++
	}
	p.samples = append(p.samples[:0], p.samples[old:]...)
}

// rates are bytes per second over the window; 0 while unknown.
func (p *progress) rates() (in, out float64) {
	first, last := p.samples[0], p.samples[len(p.samples)-1]
	s := last.at.Sub(first.at).Seconds()
	if s <= 0 {
		return 0, 0
	}
	return float64(last.in-first.in) / s, float64(last.out-first.out) / s
}

// text is "reading  43 %, 1.7 GiB of 4.0 GiB, in 512.0 MiB/s, out 210.0 MiB/s, ETA 4.5 s".
func (p *progress) text() string {
	last, total := p.samples[len(p.samples)-1], p.gauge.Total()
	in, out := p.rates()
	var parts []string
	switch {
	case total > 0:
		done := min(last.in, total)
		parts = append(parts, fmt.Sprintf("%s %d %%", p.phase, 100*done/total), formatBytes(done)+" of "+formatBytes(total))
	case last.in > 0:
		parts = append(parts, p.phase, formatBytes(last.in))
	default:
		parts = append(parts, p.phase)
	}
	if in > 0 {
		parts = append(parts, "in "+formatRate(in))
	}
	if out > 0 {
		parts = append(parts, "out "+formatRate(out))
	}
	if left := total - last.in; left > 0 && in > 0 {
		parts = append(parts, "ETA "+formatSeconds(float64(left)/in))
	}
	return strings.Join(parts, ", ")
}
