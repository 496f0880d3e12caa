// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/blockio"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
	"github.com/tidemark-io/tidemark/mover"
)

// Exit codes; docs/cli.md documents them. mover.ExitLied is the fifth.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitDamaged = 3
)

// exitCode ends a command whose report has already said why.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// usageError is a command line that cannot be meant.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usage(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// hintError carries the next thing to do beside what went wrong.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

// failure is what a user and a machine are told; the JSON form is documented.
type failure struct {
	Message string `json:"error"`
	Code    int    `json:"code"`
	Reason  string `json:"reason"`
	Hint    string `json:"hint,omitempty"`
}

// A verdict classes the errors that match; the first that does decides.
type verdict struct {
	match  func(error) bool
	code   int
	reason string
	hint   string
}

// lead is what is said before a system's own words where those are too few.
var lead = map[string]string{"full": "no space left in the repository or here: ", "target-full": "no space left on the target: "}

func is(targets ...error) func(error) bool {
	return func(err error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
}

func as[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

const (
	reasonInterrupted = "interrupted"
	reasonPassphrase  = "wrong-passphrase"
	hintVerify        = "`tidemark verify` names every damaged object and the points that suffer"
)

var verdicts = []verdict{
	{as[*usageError], exitUsage, "usage", ""},
	{is(mover.ErrMemory), exitUsage, "memory", ""},
	{is(chunkstore.ErrNoRepository), exitFailed, "no-repository", "`tidemark init` creates one; --repo or TIDEMARK_REPO says where"},
	{is(chunkstore.ErrNoPoint), exitFailed, "no-point", "`tidemark points` lists the restore points"},
	{is(seal.ErrWrongPassphrase), exitDamaged, reasonPassphrase, ""},
	{is(chunkstore.ErrNewerVersion, chunkstore.ErrUnknownConfig, seal.ErrNewerVersion), exitDamaged, "newer-version", ""},
	{is(seal.ErrConfigAltered), exitDamaged, "damaged", "the object config was altered or swapped: put back the one that the repository was created with"},
	{is(seal.ErrUnknownKey, seal.ErrNotAuthentic, objstore.ErrShort), exitDamaged, "damaged", hintVerify},
	{as[*seal.CorruptError], exitDamaged, "damaged", hintVerify},
	{as[*imagemap.CorruptError], exitDamaged, "damaged", hintVerify},
	{as[*mover.DamageError], exitDamaged, "damaged", hintVerify},
	{as[*chunkstore.MissingChunkError], exitDamaged, "damaged", hintVerify},
	{isLostObject, exitDamaged, "damaged", hintVerify},
	{as[*blockdiff.ClaimError], exitFailed, "bad-changes", ""},
	{is(mover.ErrBusy), exitFailed, "busy", "wait for it to end, or give the volume another name with --volume"},
	{is(mover.ErrRestoreBusy), exitFailed, "busy", "wait for it to end"},
	{is(chunkstore.ErrFenced), exitFailed, "fenced", "run the same command again"},
	{as[*blockio.ReadError], exitFailed, "unreadable", "--skip-unreadable records the bad ranges in the point and backs up the rest"},
	{as[*blockio.ChangedSizeError], exitFailed, "source-changed", "back up a snapshot, which stays as it is"},
	{as[*blockio.TooSmallError], exitFailed, "target-too-small", ""},
	{as[*blockio.InUseError], exitFailed, "target-in-use", "unmount it first; --force writes to it all the same"},
	{as[*blockio.KindError], exitFailed, "not-a-volume", ""},
	{isTargetFull, exitFailed, "target-full", "make room there, and run the same command again: it goes on"},
	{is(objstore.ErrFull, unix.ENOSPC, unix.EDQUOT), exitFailed, "full", "what was stored stays; make room and run the same command again"},
	{is(objstore.ErrDenied, fs.ErrPermission), exitFailed, "denied", ""},
	{is(objstore.ErrUnreachable), exitFailed, "unreachable", ""},
	{is(objstore.ErrUnsuitable), exitFailed, "unsuitable", ""},
	{is(errFileInTheWay), exitFailed, "target-in-use", "--force replaces it; --delta makes it equal to the point by writing what differs"},
	{isMissingFolder, exitFailed, "no-repository", "is its disk mounted? `tidemark init` creates a repository; --repo or TIDEMARK_REPO says where"},
	{is(fs.ErrNotExist), exitFailed, "not-found", ""},
}

// isTargetFull tells a full target of a restore from a full repository.
func isTargetFull(err error) bool {
	_, store := errors.AsType[*objstore.Error](err)
	return !store && errors.Is(err, unix.ENOSPC) && strings.Contains(err.Error(), "target")
}

// isMissingFolder tells that the folder of the repository is not there at all.
func isMissingFolder(err error) bool {
	e, ok := errors.AsType[*objstore.Error](err)
	return ok && e.Name == "" && strings.Contains(e.Error(), "does not exist")
}

// isLostObject tells an object that something names and the store lacks.
func isLostObject(err error) bool {
	e, ok := errors.AsType[*objstore.Error](err)
	if !ok || e.Class != objstore.NotExist {
		return false
	}
	kind, _, _ := strings.Cut(e.Name, "/")
	return kind == "packs" || kind == "index" || kind == "points" || kind == "sessions" || kind == "gc"
}

// explain makes of an error what the user is told (U2, U3).
func (a *app) explain(err error, interrupted bool) failure {
	f := failure{Message: sentence(err), Code: exitFailed, Reason: "failed"}
	if interrupted && isCanceled(err) {
		return failure{Message: "interrupted", Code: exitFailed, Reason: reasonInterrupted, Hint: a.interruptedHint()}
	}
	for _, v := range verdicts {
		if v.match(err) {
			f.Code, f.Reason, f.Hint = v.code, v.reason, v.hint
			f.Message = lead[v.reason] + f.Message
			break
		}
	}
	switch {
	case f.Reason == reasonPassphrase && a.passphraseFrom != "":
		f.Hint = "the passphrase came from " + a.passphraseFrom
	case f.Code == exitUsage && f.Hint == "" && f.Reason == "usage":
		f.Hint = "`" + a.command + " --help` has the details"
	}
	if h, ok := errors.AsType[*hintError](err); ok {
		f.Hint = h.hint
	}
	return f
}

func isCanceled(err error) bool {
	return errors.Is(err, context.Canceled) || objstore.ClassOf(err) == objstore.Canceled
}

func (a *app) interruptedHint() string {
	switch a.command {
	case "tidemark backup":
		return "what was stored stays: the same command goes on without shipping it again"
	case "tidemark restore":
		return "the target is incomplete: the same command goes on where this one stopped"
	}
	return ""
}

// sentence is an error's text in one line. What the system says about a path
// is said in words where people meet it most.
func sentence(err error) string {
	text := err.Error()
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		switch {
		case errors.Is(pe, fs.ErrNotExist):
			text = strings.Replace(text, pe.Error(), pe.Path+" does not exist", 1)
		case errors.Is(pe, fs.ErrPermission):
			text = strings.Replace(text, pe.Error(), "no permission to "+pe.Op+" "+pe.Path, 1)
		}
	}
	var told []string // joined errors stand on lines of their own, and several workers may say one thing
	for line := range strings.SplitSeq(text, "\n") {
		if !slices.ContainsFunc(told, func(t string) bool { return strings.Contains(t, line) }) {
			told = append(told, line)
		}
	}
	return strings.Join(told, "; ")
}
