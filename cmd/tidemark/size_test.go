// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "17": 17, "17B": 17, "64k": 64 << 10, "64K": 64 << 10, "64Ki": 64 << 10, "64KiB": 64 << 10, "512MiB": 512 << 20, "512m": 512 << 20,
		"1.5GiB": 3 << 29, "2T": 2 << 40, "1P": 1 << 50, "7E": 7 << 60, "9223372036854775807": math.MaxInt64,
	} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "k", "B", "-1", "1.5", "1.3k", "64kb", "64KB", "1e3", "1E3", "8E", "9223372036854775808", "NaN", "Inf", "0x10", "1 k", "5 MiB", "1kk", "1Bi", "1iB", ".k", "1_0",
	} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q is taken as %d", text, got)
		}
	}
}

func TestFormatBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 1 << 20: "1 MiB", 1<<20 - 1: "1.0 MiB", 4 << 30: "4 GiB", 5 << 40: "5 TiB", math.MaxInt64: "8 EiB",
	} {
		if got := formatBytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

// What is printed can be typed again, and means the same within its rounding.
func TestFormattedSizesParse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, 1<<60).Draw(t, "n") >> rapid.IntRange(0, 60).Draw(t, "shift")
		text := formatBytes(n)
		number, unit, _ := strings.Cut(text, " ")
		got, err := parseSize(number + unit)
		if err != nil {
			t.Skip("a rounded figure is no whole number of bytes")
		}
		if d := math.Abs(float64(got - n)); d > float64(n)/15 {
			t.Fatalf("%d is shown as %s, which is %d", n, text, got)
		}
	})
}

func TestFormatSeconds(t *testing.T) {
	for s, want := range map[float64]string{
		0: "0 ms", 0.0421: "42 ms", 0.5: "0.5 s", 9.96: "10 s", 75: "75 s", 100: "1 min 40 s", 3599.6: "1 h 00 min", 7500: "2 h 05 min",
	} {
		if got := formatSeconds(s); got != want {
			t.Errorf("%v: %q, want %q", s, got, want)
		}
	}
}
