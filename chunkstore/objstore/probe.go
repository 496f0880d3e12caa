// SPDX-License-Identifier: Apache-2.0

package objstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
)

// Probe proves on a throw-away object below prefix that the store really does
// what a repository rests on: it refuses a second create, and gives back what
// was stored, whole and in ranges. What fails is ErrUnsuitable with a sentence.
// The object is removed again where the credentials allow that.
func Probe(ctx context.Context, s Store, prefix string) error {
	name := prefix + "probe-" + rand.Text()
	first := []byte("tidemark probe " + rand.Text())
	if err := s.Put(ctx, name, Body{first}); err != nil {
		return fmt.Errorf("probe %s: %w", s, err)
	}
	err := probeObject(ctx, s, name, first)
	// Also after an error and a canceled context: leave nothing behind.
	if derr := s.Delete(context.WithoutCancel(ctx), name); err == nil && derr != nil && !errors.Is(derr, ErrDenied) {
		err = derr
	}
	if err != nil {
		return fmt.Errorf("probe %s: %w", s, err)
	}
	return nil
}

func probeObject(ctx context.Context, s Store, name string, first []byte) error {
	second := bytes.ToUpper(first)
	switch err := s.Put(ctx, name, Body{second}); {
	case err == nil:
		return unsuitable(name, "it lets a second create of one name succeed (conditional writes are ignored)")
	case !errors.Is(err, ErrExists):
		return err
	}
	got, err := ReadAll(ctx, s, name, int64(2*len(first)))
	switch {
	case err != nil:
		return err
	case bytes.Equal(got, second):
		return unsuitable(name, "it refuses a second create of one name but overwrites the object all the same")
	case !bytes.Equal(got, first):
		return unsuitable(name, "it gives back other bytes than were stored")
	}
	part, err := ReadRange(ctx, s, name, 3, 5)
	if err != nil {
		return err
	}
	if !bytes.Equal(part, first[3:8]) {
		return unsuitable(name, "it gives back other bytes than were asked for in a ranged read")
	}
	info, err := s.Stat(ctx, name)
	if err != nil {
		return err
	}
	if info.Size != int64(len(first)) {
		return unsuitable(name, fmt.Sprintf("it says that an object of %d bytes has %d", len(first), info.Size))
	}
	return nil
}

func unsuitable(name, why string) error {
	return &Error{Op: "probe", Name: name, Err: fmt.Errorf("%w: %s", ErrUnsuitable, why)}
}
