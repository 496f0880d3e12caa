// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

var params = Params{Bits: 18, Min: 256 << 10, Max: 1 << 20}

// mixed is half text that shrinks, half noise that does not.
func mixed(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data[n/2:])
	copy(data, bytes.Repeat([]byte("a row of a table; "), n/2/18))
	return data
}

func TestRunTakesEveryByte(t *testing.T) {
	for _, n := range []int{1, FrameSize - 1, FrameSize, FrameSize + 1, 2*Segment + 12345} {
		r, err := NewRunner(params)
		if err != nil {
			t.Fatal(err)
		}
		cost, err := r.Run(t.Context(), mixed(n))
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		frames := uint64(0)
		for _, w := range r.workers {
			frames += w.frame
		}
		if least := uint64((n + FrameSize - 1) / FrameSize); cost.Bytes != int64(n) || frames < least {
			t.Errorf("%d bytes: counted %d, sealed %d frames, want at least %d", n, cost.Bytes, frames, least)
		}
	}
}

func TestSegmentNoticesDamage(t *testing.T) {
	w, err := NewWorker(params)
	if err != nil {
		t.Fatal(err)
	}
	payload := w.compress(mixed(FrameSize))
	w.seal(payload)
	w.sealed[100] ^= 1
	if err := w.open(); err == nil {
		t.Error("a flipped bit was opened")
	}
}

func TestMeasureHasAllStages(t *testing.T) {
	got, err := Measure(params, mixed(2<<20))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != stages {
		t.Fatalf("%d stages, want %d", len(got), stages)
	}
	for _, s := range got {
		if s.Name == "" || s.InLoop <= 0 || s.Alone <= 0 {
			t.Errorf("stage without a figure: %+v", s)
		}
	}
}

func TestSegmentAllocatesNothing(t *testing.T) {
	w, err := NewWorker(params)
	if err != nil {
		t.Fatal(err)
	}
	data := mixed(1 << 20)
	allocs := testing.AllocsPerRun(5, func() {
		if err := w.Segment(data); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 0 {
		t.Errorf("%v allocations per segment", allocs)
	}
}

func TestUnpackReturnsWhatWasPacked(t *testing.T) {
	w, err := NewWorker(params)
	if err != nil {
		t.Fatal(err)
	}
	data, out := mixed(3<<20+123), make([]byte, params.Max)
	total := 0
	err = w.Chunks(data, func(chunk []byte) error {
		stored, p := w.Pack(chunk, nil)
		total += len(chunk)
		if err := w.Unpack(&p, stored, out); err != nil {
			return err
		}
		if !bytes.Equal(out[:p.Plain], chunk) {
			t.Errorf("a chunk of %d bytes comes back differently", len(chunk))
		}
		stored[len(stored)/2] ^= 1
		if err := w.Unpack(&p, stored, out); err == nil {
			t.Error("a flipped bit was unpacked")
		}
		return nil
	})
	if err != nil || total != len(data) {
		t.Fatalf("%d of %d bytes: %v", total, len(data), err)
	}
}
