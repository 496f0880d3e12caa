// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// sizeValue is a flag that takes a size in bytes, such as 512MiB or 64k.
type sizeValue int64

// String is the value for help texts; 0 is not shown.
func (s *sizeValue) String() string {
	if *s == 0 {
		return ""
	}
	return formatBytes(int64(*s))
}

// Set implements pflag.Value.
func (s *sizeValue) Set(text string) error {
	n, err := parseSize(text)
	*s = sizeValue(n)
	return err
}

// Type names the value in help texts.
func (s *sizeValue) Type() string { return "size" }

// units are powers of 1024, by what may stand before "iB".
const units = "KMGTPE"

// parseSize reads a number with one of the suffixes B, k, K, Ki, KiB, … EiB.
// "KB" is refused: some mean 1000 bytes by it, and a wrong size is no answer.
func parseSize(text string) (int64, error) {
	wrong := fmt.Errorf("%q is no size like 512MiB, 64k or 1048576", text)
	number := strings.TrimRight(text, "BbiIKkMmGgTtPpEe")
	shift, ok := unitShift(strings.ToLower(text[len(number):]))
	if !ok {
		return 0, wrong
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil {
		if n < 0 || n > math.MaxInt64>>shift {
			return 0, wrong
		}
		return n << shift, nil
	}
	f, err := strconv.ParseFloat(number, 64)
	f = math.Ldexp(f, shift)
	if err != nil || !(f >= 0 && f < math.MaxInt64) || f != math.Trunc(f) || !strings.Contains(number, ".") {
		return 0, wrong
	}
	return int64(f), nil
}

// unitShift is the power of two that a suffix in lower case stands for.
func unitShift(suffix string) (int, bool) {
	switch {
	case suffix == "" || suffix == "b":
		return 0, true
	case len(suffix) == 1 || suffix[1:] == "i" || suffix[1:] == "ib":
		i := strings.IndexByte(strings.ToLower(units), suffix[0])
		return 10 * (i + 1), i >= 0
	}
	return 0, false
}

// formatBytes rounds to a tenth of a unit, and shows none where there is none: 17 B, 64 KiB, 1.5 GiB.
func formatBytes(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f := float64(n)
	for _, u := range units {
		f /= 1024
		switch {
		case f >= 1023.95 && u != 'E':
		case f == math.Trunc(f):
			return fmt.Sprintf("%.0f %ciB", f, u)
		default:
			return fmt.Sprintf("%.1f %ciB", f, u)
		}
	}
	return ""
}

// formatRate is bytes per second.
func formatRate(perSecond float64) string { return formatBytes(int64(perSecond)) + "/s" }

// formatSeconds is a duration in seconds for people.
func formatSeconds(s float64) string {
	switch {
	case s < 0.0995:
		return fmt.Sprintf("%.0f ms", s*1000)
	case s < 9.95:
		return fmt.Sprintf("%.1f s", s)
	case s < 99.5:
		return fmt.Sprintf("%.0f s", s)
	}
	d := time.Duration(s * float64(time.Second)).Round(time.Second)
	if d < time.Hour {
		return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
}

// formatTime is local time with its zone.
func formatTime(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") }

// share is a part of a whole in percent.
func share(part, whole int64) string {
	if whole == 0 {
		return "–"
	}
	p := 100 * float64(part) / float64(whole)
	switch {
	case p == 0 || p >= 0.1:
		return fmt.Sprintf("%.1f %%", p)
	case p >= 0.001:
		return fmt.Sprintf("%.3f %%", p)
	}
	return "under 0.001 %"
}

// times is how many times the one the other is.
func times(part, whole int64) string {
	if whole == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f ×", float64(part)/float64(whole))
}

// counted is a number with its noun.
func counted(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
