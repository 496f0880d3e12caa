// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"errors"
	"fmt"
)

var (
	// ErrUnknownKey: the object is sealed under a master secret that the
	// keyring does not hold.
	ErrUnknownKey = errors.New("sealed under a key that no opened slot holds")
	// ErrNewerVersion: the object has a format version from the future.
	ErrNewerVersion = errors.New("written in a format newer than this version reads")
	// ErrWrongPassphrase: the slot is whole but does not open.
	ErrWrongPassphrase = errors.New("wrong passphrase")
	// ErrConfigAltered: the slot opens, but was made for another config.
	ErrConfigAltered = errors.New("the repository's config is not the one its key slot was made for")
	// ErrNotAuthentic: sealed bytes do not open under this key, number and kind.
	ErrNotAuthentic = errors.New("authentication fails")
)

// CorruptError says that stored bytes are not what was written. It names the
// object and the offset of the first thing in it that is wrong: for sealed
// bytes, where they begin.
type CorruptError struct {
	Object string
	Offset int64
	Detail string // what was expected and what was found
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s: corrupt at offset %d: %s", e.Object, e.Offset, e.Detail)
}

func corrupt(object string, offset int64, format string, args ...any) error {
	return &CorruptError{Object: object, Offset: offset, Detail: fmt.Sprintf(format, args...)}
}
