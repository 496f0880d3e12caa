// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Report is what a backup ends with; the program prints it as JSON. All byte
// counts are exact and counted where the I/O happens.
type Report struct {
	Point  string `json:"point"`
	Volume string `json:"volume"`
	Base   string `json:"base"` // "" for none
	Source string `json:"source"`
	Reason string `json:"reason"`
	Trust  string `json:"trust"`

	VolumeBytes   int64 `json:"volumeBytes"`
	ChangedBytes  int64 `json:"changedBytes"`
	ReadBytes     int64 `json:"readBytes"` // from the source, without the audit's
	AuditBytes    int64 `json:"auditBytes"`
	FetchedBytes  int64 `json:"fetchedBytes"`  // from the repository
	NewBytes      int64 `json:"newBytes"`      // plaintext of chunks that were not there
	MovedBytes    int64 `json:"movedBytes"`    // unchanged, stored again so that packs can die
	ShippedBytes  int64 `json:"shippedBytes"`  // all objects put
	MetadataBytes int64 `json:"metadataBytes"` // those that are not sealed data frames
	Chunks        int64 `json:"chunks"`
	NewChunks     int64 `json:"newChunks"`

	Seconds         float64 `json:"seconds"`
	CPUSeconds      float64 `json:"cpuSeconds"`
	PeakMemoryBytes int64   `json:"peakMemoryBytes"`

	Audit      AuditReport `json:"audit"`
	Resumed    string      `json:"resumed,omitempty"` // how an interrupted run was continued
	Warnings   []string    `json:"warnings,omitempty"`
	Unreadable int64       `json:"unreadableBytes,omitempty"`
}

// AuditReport tells what the check on a claim looked at and found, in bytes.
type AuditReport struct {
	Sampled int64 `json:"sampled"`
	Missed  int64 `json:"missed"`
}

// usage measures one run of this process.
type usage struct {
	start time.Time
	cpu   time.Duration
}

func startUsage(now time.Time) usage { return usage{start: now, cpu: cpuTime()} }

func (u usage) seconds(now time.Time) (wall, cpu float64) {
	return now.Sub(u.start).Seconds(), (cpuTime() - u.cpu).Seconds()
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// peakMemory is the process's largest resident set so far in bytes: VmHWM of
// /proc/self/status, and 0 where that can't be read.
func peakMemory() int64 {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "VmHWM:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			if err == nil {
				return kib << 10
			}
		}
	}
	return 0
}
