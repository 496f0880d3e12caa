// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strconv"
	"strings"
)

// byteSize is a number of bytes, written with a unit: 512M, 4GiB.
type byteSize int64

var byteUnits = []struct {
	letter string
	bytes  int64
}{{"T", 1 << 40}, {"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}}

// Set implements flag.Value.
func (s *byteSize) Set(text string) error {
	number, unit := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(text), "B"), "I"), int64(1)
	for _, u := range byteUnits {
		if n, ok := strings.CutSuffix(number, u.letter); ok {
			number, unit = n, u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > (1<<62)/unit {
		return fmt.Errorf("%q is no size: write it like 512M or 4G", text)
	}
	*s = byteSize(n * unit)
	return nil
}

// String implements flag.Value.
func (s byteSize) String() string {
	for _, u := range byteUnits {
		if int64(s) >= u.bytes {
			n := strings.TrimSuffix(fmt.Sprintf("%.1f", float64(s)/float64(u.bytes)), ".0")
			return n + " " + u.letter + "iB"
		}
	}
	return fmt.Sprintf("%d B", int64(s))
}
