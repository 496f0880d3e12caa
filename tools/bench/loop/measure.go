// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"bytes"
	"encoding/binary"
	"math"
	"runtime"
	"time"

	"github.com/pierrec/lz4/v4"
)

// Stage is one step of the loop.
type Stage struct {
	Name   string  `json:"name"`
	InLoop float64 `json:"inLoopMBps"` // plaintext per second of one core, inside the loop
	Alone  float64 `json:"aloneMBps"`  // the same library over the same bytes, with nothing between its calls
}

const (
	stageCut = iota
	stageName
	stageCompress
	stageSeal
	stageOpen
	stageDecode
	stageCompare
	stages
)

var stageNames = [stages]string{"cut (restic/chunker)", "name (BLAKE3)", "compress (LZ4)", "seal (AES-256-GCM)", "open", "decode (LZ4)", "compare"}

// rounds is how often everything is done; of each call's times the least counts, which is the one that nothing
// interrupted.
const rounds = 7

// clock keeps, for each call in the order of calls, the least time of all rounds.
type clock struct {
	least [stages][]time.Duration
	at    [stages]int
	from  time.Time
}

func (c *clock) restart() { c.at = [stages]int{} }

func (c *clock) start() { c.from = time.Now() }

// stop ends the call of a stage and starts the next one's time.
func (c *clock) stop(stage int) {
	now := time.Now()
	d := now.Sub(c.from)
	if i := c.at[stage]; i == len(c.least[stage]) {
		c.least[stage] = append(c.least[stage], d)
	} else {
		c.least[stage][i] = min(c.least[stage][i], d)
	}
	c.at[stage]++
	c.from = time.Now()
}

// speed is in MB/s, without what looking at the clock takes.
func (c *clock) speed(stage int, n int64, tick time.Duration) float64 {
	sum := time.Duration(0)
	for _, d := range c.least[stage] {
		sum += max(0, d-tick)
	}
	if sum <= 0 {
		return math.Inf(1)
	}
	return float64(n) / 1e6 / sum.Seconds()
}

// Measure times each stage in the loop and alone, in turns, over data, which should be some tens of MiB.
func Measure(p Params, data []byte) ([]Stage, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	w, err := NewWorker(p)
	if err != nil {
		return nil, err
	}
	a := newAlone(w, data)
	var in, out clock
	for range rounds {
		in.restart()
		if err := w.timed(data, &in); err != nil {
			return nil, err
		}
		out.restart()
		if err := a.run(&out); err != nil {
			return nil, err
		}
	}
	tick := tickTime()
	result := make([]Stage, stages)
	for i := range result {
		result[i] = Stage{Name: stageNames[i], InLoop: in.speed(i, int64(len(data)), tick), Alone: out.speed(i, int64(len(data)), tick)}
	}
	return result, nil
}

func tickTime() time.Duration {
	least := time.Hour
	for range 1000 {
		from := time.Now()
		least = min(least, time.Since(from))
	}
	return least
}

// timed is Segment with a clock.
func (w *Worker) timed(data []byte, c *clock) error {
	w.chunker = w.fresh
	for len(data) > 0 {
		c.start()
		n := w.cut(data)
		c.stop(stageCut)
		w.hash(data[:n])
		c.stop(stageName)
		for f := range frames(data[:n]) {
			c.start()
			payload := w.compress(f)
			c.stop(stageCompress)
			w.seal(payload)
			c.stop(stageSeal)
			if err := w.open(); err != nil {
				return err
			}
			c.stop(stageOpen)
			plain, err := w.decode(len(payload) == len(f), len(f))
			if err != nil {
				return err
			}
			c.stop(stageDecode)
			if !bytes.Equal(plain, f) {
				return ErrDiffers
			}
			c.stop(stageCompare)
		}
		data = data[n:]
	}
	return nil
}

// alone holds every stage's input, made beforehand.
type alone struct {
	w      *Worker
	data   []byte
	chunks [][]byte
	frames []prepared
}

type prepared struct {
	plain, payload, sealed []byte
	raw                    bool
	number                 uint64
}

func newAlone(w *Worker, data []byte) *alone {
	a := &alone{w: w, data: data}
	w.chunker = w.fresh
	for rest := data; len(rest) > 0; {
		n := w.cut(rest)
		a.chunks = append(a.chunks, rest[:n])
		for f := range frames(rest[:n]) {
			payload := w.compress(f)
			w.seal(payload)
			a.frames = append(a.frames, prepared{
				plain: f, payload: bytes.Clone(payload), sealed: bytes.Clone(w.sealed), raw: len(payload) == len(f), number: w.frame,
			})
		}
		rest = rest[n:]
	}
	return a
}

func (a *alone) run(c *clock) error {
	a.streams(c)
	w := a.w
	c.start()
	for i := range a.frames {
		w.compress(a.frames[i].plain)
		c.stop(stageCompress)
	}
	c.start()
	for i := range a.frames {
		w.sealed = w.aead.Seal(w.sealed[:0], w.nonce[:], a.frames[i].payload, w.aad[:])
		c.stop(stageSeal)
	}
	c.start()
	for i := range a.frames {
		f := &a.frames[i]
		binary.LittleEndian.PutUint64(w.nonce[4:], f.number)
		var err error
		if w.opened, err = w.aead.Open(w.opened[:0], w.nonce[:], f.sealed, w.aad[:]); err != nil {
			return err
		}
		c.stop(stageOpen)
	}
	c.start()
	for i := range a.frames {
		if f := &a.frames[i]; !f.raw {
			if _, err := lz4.UncompressBlock(f.payload, w.plain[:len(f.plain)]); err != nil {
				return err
			}
		}
		c.stop(stageDecode)
	}
	return a.compare(c)
}

// streams are the stages of whole chunks.
func (a *alone) streams(c *clock) {
	a.w.chunker = a.w.fresh
	c.start()
	for rest := a.data; len(rest) > 0; {
		rest = rest[a.w.cut(rest):]
		c.stop(stageCut)
	}
	c.start()
	for _, chunk := range a.chunks {
		a.w.hash(chunk)
		c.stop(stageName)
	}
}

// compare has one side in the cache, as it is right after decoding.
func (a *alone) compare(c *clock) error {
	for i := range a.frames {
		f := a.frames[i].plain
		plain := a.w.plain[:copy(a.w.plain[:], f)]
		c.start()
		if !bytes.Equal(plain, f) {
			return ErrDiffers
		}
		c.stop(stageCompare)
	}
	return nil
}
