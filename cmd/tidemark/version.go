// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/tidemark-io/tidemark/chunkstore"
)

// versionReport is the JSON of version.
type versionReport struct {
	Version       string `json:"version"`
	Commit        string `json:"commit,omitempty"`
	CommitTime    string `json:"commitTime,omitempty"`
	Modified      bool   `json:"modified"` // built from a tree with changes
	FormatVersion int    `json:"formatVersion"`
	Go            string `json:"go"`
	Platform      string `json:"platform"`
}

// programVersion is what the build recorded.
func programVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

func versionOf() versionReport {
	r := versionReport{
		Version: programVersion(), FormatVersion: chunkstore.FormatVersion,
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return r
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			r.Commit = s.Value
		case "vcs.time":
			r.CommitTime = s.Value
		case "vcs.modified":
			r.Modified = s.Value == "true"
		}
	}
	return r
}

func versionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of the program and of the format it writes",
		Args:  exactly(),
		RunE: func(*cobra.Command, []string) error {
			r := versionOf()
			return a.print(r, func(w io.Writer) {
				fmt.Fprintf(w, "tidemark %s (%s, %s), repository format %d\n", r.Version, r.Go, r.Platform, r.FormatVersion)
			})
		},
	}
}
