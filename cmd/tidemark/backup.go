// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/cdc"
	"github.com/tidemark-io/tidemark/mover"
)

// backupFlags are the flags of backup as given.
type backupFlags struct {
	volume, base, snapshot string
	changes, baseSnapshot  string
	full, skipUnreadable   bool
	audit                  shareValue
	tags                   tagsValue
	chunker                string
	digest                 sizeValue
}

func backupCommand(a *app) *cobra.Command {
	var o backupFlags
	cmd := &cobra.Command{
		Use:   "backup SOURCE",
		Short: "Make a restore point of a block device or an image file",
		Long: `Make a restore point of SOURCE, a block device or an image file.

The first backup of a volume reads what may hold data. Later ones ship what changed since
the volume's latest point: with --changes only what the list names is read (and a sample of
the rest, to catch a list that lies); without, all of it is read and compared with
fingerprints. A killed backup goes on when the same command is given again.

SOURCE should be a snapshot, or not written to meanwhile: a point holds what was read.`,
		Args: exactly("SOURCE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("volume") && o.volume == "" { // an unset variable in a script
				return usage("--volume is empty")
			}
			return a.backup(cmd.Context(), args[0], &o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.volume, "volume", "", "`name` of the volume in the repository (default: the last part of SOURCE's path)")
	f.StringVar(&o.base, "base", "", "`point` that this one is a change of (default: the volume's latest)")
	f.StringVar(&o.snapshot, "snapshot", "", "`id` of the snapshot that SOURCE is; recorded in the point")
	f.StringVar(&o.changes, "changes", "", "`file` (- for standard input) with a list of what changed since the base, as JSON:\n[{\"offset\":N,\"length\":N}], or what rbd diff --format json prints")
	f.StringVar(&o.baseSnapshot, "base-snapshot", "", "`id` of the snapshot that --changes starts from; must be the base's, or the list is not used")
	f.BoolVar(&o.full, "full", false, "read everything; still ships only what the repository lacks")
	f.Var(&o.audit, "audit", "`share` of the volume that --changes is checked against by re-reading, 0.01 or 1%;\na random sample is checked besides (default 0.1%)")
	f.Var(&o.tags, "tag", "`key=value` kept in the point; may be repeated")
	f.StringVar(&o.chunker, "chunker", string(cdc.Rabin), "`how` the volume is cut: rabin (finds data at any byte offset) or aligned (faster, whole pages)")
	f.Var(&o.digest, "digest", "`bytes` per fingerprint: 4k, 8k, 16k, 32k or 64k; smaller ones find small changes\nwithout fetching, at more metadata (default 8k)")
	f.BoolVar(&o.skipUnreadable, "skip-unreadable", false, "go on over ranges that cannot be read, and list them in the point")
	memoryFlag(a, cmd)
	return cmd
}

func memoryFlag(a *app, cmd *cobra.Command) {
	cmd.Flags().Var(&a.memory, "memory", fmt.Sprintf("memory for the whole process (default %s, at least %s)", formatBytes(mover.DefaultMemory), formatBytes(mover.MinMemory)))
}

func (a *app) backup(ctx context.Context, source string, o *backupFlags) error {
	opt, err := o.options(source)
	if err != nil {
		return err
	}
	changes, err := openChanges(a, o.changes)
	if err != nil {
		return err
	}
	if changes != nil {
		defer changes.Close()
		opt.Changes = changes
	}
	opt.Memory = int64(a.memory)
	if o.volume == "" {
		a.note("volume %s (--volume gives it another name)", opt.Volume)
	}
	return a.with(ctx, func(repo *chunkstore.Repository) error {
		if opt.Base, err = baseFor(ctx, repo, o.base, opt.Volume); err != nil {
			return err
		}
		opt.Progress = new(mover.Progress)
		stop := showProgress(a, opt.Progress)
		report, err := mover.Backup(ctx, repo, opt)
		stop()
		if err != nil {
			return err
		}
		return printBackup(a, report)
	})
}

// options checks what can be checked without the repository.
func (o *backupFlags) options(source string) (opt mover.BackupOptions, err error) {
	volume := o.volume
	if volume == "" {
		volume = defaultVolume(source)
	}
	switch {
	case !validVolume(volume):
		return opt, usage("%q cannot be the name of a volume: want 1 to 255 bytes of printable text (--volume)", volume)
	case o.full && o.changes != "":
		return opt, usage("--full reads everything, so a list of changes has no use: give one of --full and --changes")
	case o.baseSnapshot != "" && o.changes == "":
		return opt, usage("--base-snapshot says where a list of changes starts, and there is none: it goes with --changes")
	case o.chunker != string(cdc.Rabin) && o.chunker != string(cdc.Aligned):
		return opt, usage("--chunker %q is neither rabin nor aligned", o.chunker)
	}
	if d := o.digest; d != 0 && (d < 4<<10 || d > 64<<10 || d&(d-1) != 0) {
		return opt, usage("--digest %s is none of 4k, 8k, 16k, 32k and 64k", formatBytes(int64(d)))
	}
	return mover.BackupOptions{
		Source: source, Volume: volume, Full: o.full, Snapshot: o.snapshot, BaseSnapshot: o.baseSnapshot,
		AuditShare: float64(o.audit), Tags: o.tags, Chunker: cdc.Kind(o.chunker), DigestSize: int(o.digest), SkipUnreadable: o.skipUnreadable,
	}, nil
}

// defaultVolume is the last part of the path as it was given: what a name
// under /dev/disk/by-id stands for may change, the name does not.
func defaultVolume(source string) string {
	abs, err := filepath.Abs(source)
	if err != nil {
		abs = source
	}
	return filepath.Base(abs)
}

func validVolume(name string) bool {
	return name != "" && name != "/" && len(name) <= 255 && utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}

// openChanges opens the list of changes; nil where none is given.
func openChanges(a *app, path string) (*os.File, error) {
	switch path {
	case "":
		return nil, nil
	case "-":
		return a.stdin, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("list of changes: %w", err)
	}
	return f, nil
}

// baseFor finds the base that was asked for; nil leaves it to the mover.
func baseFor(ctx context.Context, repo *chunkstore.Repository, spec, volume string) (*chunkstore.Point, error) {
	if spec == "" {
		return nil, nil
	}
	p, err := lookup(ctx, repo, spec)
	if err != nil {
		return nil, err
	}
	if p.Volume != volume {
		return nil, usage("the base %.8s is a point of volume %q, not of %q (--volume)", p.ID, p.Volume, volume)
	}
	return p, nil
}

// printBackup ends a backup; a claim caught lying is an exit code of its own.
func printBackup(a *app, r *mover.Report) error {
	for _, w := range r.Warnings {
		a.console.note("warning: " + w)
	}
	err := a.print(r, func(w io.Writer) {
		if a.quiet {
			fmt.Fprintln(w, r.Point)
			return
		}
		writeBackup(w, r)
	})
	if err == nil && r.ExitCode() != 0 {
		a.console.note("tidemark: the list of changes left out bytes that changed; the point is complete and right all the same, made by comparing the whole volume")
		return exitCode(r.ExitCode())
	}
	return err
}

func writeBackup(w io.Writer, r *mover.Report) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("point", "%.8s  %s@latest  %s", r.Point, r.Volume, formatBytes(r.VolumeBytes))
	row("how", "%s: %s", r.Source, r.Reason)
	if r.Base != "" {
		row("base", "%.8s", r.Base)
	}
	if r.Resumed != "" {
		row("resumed", "%s", r.Resumed)
	}
	row("changed", "%-12s %s of the volume", formatBytes(r.ChangedBytes), share(r.ChangedBytes, r.VolumeBytes))
	checked := "the list of changes"
	if r.Resumed != "" {
		checked = "what was done before"
	}
	row("read", "%-12s %s changed%s", formatBytes(r.ReadBytes), times(r.ReadBytes, r.ChangedBytes), ifAny(r.AuditBytes, ", and %s to check "+checked))
	row("shipped", "%-12s %s changed, of it %s metadata%s", formatBytes(r.ShippedBytes), times(r.ShippedBytes, r.ChangedBytes),
		formatBytes(r.MetadataBytes), ifAny(r.MovedBytes, "; %s moved so that packs can go"))
	row("new", "%-12s in %d of %s", formatBytes(r.NewBytes), r.NewChunks, counted(r.Chunks, "chunk"))
	if r.FetchedBytes > 0 {
		row("fetched", "%s from the repository", formatBytes(r.FetchedBytes))
	}
	if r.Unreadable > 0 {
		row("lost", "%s could not be read from the source; `tidemark show` lists where", formatBytes(r.Unreadable))
	}
	row("took", "%-12s %s of CPU, %s of memory at most", formatSeconds(r.Seconds), formatSeconds(r.CPUSeconds), formatBytes(r.PeakMemoryBytes))
}

// ifAny formats bytes into a phrase unless there are none.
func ifAny(n int64, format string) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(format, formatBytes(n))
}

// shareValue is a flag that takes a share above 0 and up to 1, as 0.01 or 1%.
type shareValue float64

func (s *shareValue) String() string {
	if *s == 0 {
		return ""
	}
	return strconv.FormatFloat(float64(*s), 'g', -1, 64)
}

// Set implements pflag.Value.
func (s *shareValue) Set(text string) error {
	number, percent := strings.CutSuffix(text, "%")
	f, err := strconv.ParseFloat(number, 64)
	if percent {
		f /= 100
	}
	if err != nil || math.IsNaN(f) || f <= 0 || f > 1 {
		return fmt.Errorf("%q is no share above 0 and up to 1, such as 0.01 or 1%%", text)
	}
	*s = shareValue(f)
	return nil
}

// Type names the value in help texts.
func (s *shareValue) Type() string { return "share" }

// tagsValue is a flag that collects key=value.
type tagsValue map[string]string

func (t *tagsValue) String() string { return "" }

// Set implements pflag.Value.
func (t *tagsValue) Set(text string) error {
	key, value, ok := strings.Cut(text, "=")
	if !ok || key == "" || !utf8.ValidString(text) {
		return errors.New("want key=value")
	}
	if *t == nil {
		*t = tagsValue{}
	}
	(*t)[key] = value
	return nil
}

// Type names the value in help texts.
func (t *tagsValue) Type() string { return "key=value" }
