// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/blockio"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
	"github.com/tidemark-io/tidemark/mover"
)

func TestExplain(t *testing.T) {
	inPack := &objstore.Error{Op: "get", Name: "packs/0000000001/000001-ab", Class: objstore.NotExist}
	for _, c := range []struct {
		err    error
		code   int
		reason string
	}{
		{errors.New("something"), 1, "failed"},
		{usage("no"), 2, "usage"},
		{mover.ErrMemory, 2, "memory"},
		{chunkstore.ErrNoRepository, 1, "no-repository"},
		{chunkstore.ErrNoPoint, 1, "no-point"},
		{seal.ErrWrongPassphrase, 3, "wrong-passphrase"},
		{chunkstore.ErrNewerVersion, 3, "newer-version"},
		{chunkstore.ErrUnknownConfig, 3, "newer-version"},
		{seal.ErrNewerVersion, 3, "newer-version"},
		{seal.ErrConfigAltered, 3, "damaged"},
		{seal.ErrUnknownKey, 3, "damaged"},
		{&seal.CorruptError{Object: "packs/x", Offset: 7, Detail: "bad"}, 3, "damaged"},
		{&imagemap.CorruptError{Detail: "bad"}, 3, "damaged"},
		{&chunkstore.MissingChunkError{}, 3, "damaged"},
		{&mover.DamageError{}, 3, "damaged"},
		{mover.ErrRestoreBusy, 1, "busy"},
		{inPack, 3, "damaged"},
		{&objstore.Error{Op: "open", Name: "bucket", Class: objstore.NotExist}, 1, "failed"},
		{&blockdiff.ClaimError{Detail: "bad"}, 1, "bad-changes"},
		{mover.ErrBusy, 1, "busy"},
		{chunkstore.ErrFenced, 1, "fenced"},
		{&blockio.ReadError{Path: "/dev/x", Err: unix.EIO}, 1, "unreadable"},
		{&blockio.ChangedSizeError{}, 1, "source-changed"},
		{&blockio.TooSmallError{}, 1, "target-too-small"},
		{&blockio.InUseError{}, 1, "target-in-use"},
		{&blockio.KindError{}, 1, "not-a-volume"},
		{unix.ENOSPC, 1, "full"},
		{&objstore.Error{Class: objstore.Full}, 1, "full"},
		{&objstore.Error{Class: objstore.Denied}, 1, "denied"},
		{&fs.PathError{Op: "open", Path: "/x", Err: unix.EACCES}, 1, "denied"},
		{&objstore.Error{Class: objstore.Unreachable}, 1, "unreachable"},
		{objstore.ErrUnsuitable, 1, "unsuitable"},
	} {
		f := new(app).explain(fmt.Errorf("do it: %w", c.err), false)
		if f.Code != c.code || f.Reason != c.reason {
			t.Errorf("%v: code %d, reason %s; want %d, %s", c.err, f.Code, f.Reason, c.code, c.reason)
		}
	}
}

func TestExplainInterrupted(t *testing.T) {
	a := &app{command: "tidemark restore"}
	for _, err := range []error{context.Canceled, &objstore.Error{Class: objstore.Canceled}} {
		if f := a.explain(fmt.Errorf("read: %w", err), true); f.Reason != "interrupted" || f.Code != 1 || f.Hint == "" {
			t.Errorf("%v: %+v", err, f)
		}
	}
	if f := a.explain(errors.New("a real problem"), true); f.Reason != "failed" {
		t.Errorf("a problem before the signal is told as %+v", f)
	}
}

func TestSentence(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&fs.PathError{Op: "stat", Path: "/x", Err: unix.ENOENT}, "/x does not exist"},
		{fmt.Errorf("open source: %w", &fs.PathError{Op: "open", Path: "/x", Err: unix.EACCES}), "open source: no permission to open /x"},
		{errors.Join(errors.New("store pack: full"), errors.New("store pack: full"), errors.New("close: gone")), "store pack: full; close: gone"},
		{errors.Join(errors.New("write x: full"), errors.New("full")), "write x: full"},
	} {
		if got := sentence(c.err); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
