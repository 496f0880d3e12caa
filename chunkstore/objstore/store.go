// SPDX-License-Identifier: Apache-2.0

package objstore

import (
	"context"
	"io"
	"time"
)

// Info is what a store knows of an object without reading it.
type Info struct {
	Name string
	Size int64
	// Modified is when the object came to be, by the store's own clock.
	Modified time.Time
}

// Store holds immutable objects under names. All methods may be called
// concurrently and return an *Error when they fail; the package doc numbers
// the invariants. A method returns soon after its context ends, with an error
// that matches the context's.
type Store interface {
	// Put creates the object, or fails with ErrExists if the name is taken
	// (I1). The body is only read, and not kept after the return. After an
	// error of class Retryable the object may exist all the same.
	Put(ctx context.Context, name string, body Body) error

	// Get opens n bytes at off, or everything from off on if n < 0. The
	// reader is bound to ctx, must be closed, and obeys I5; with n < 0 the
	// length is that of the object when it was opened.
	Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error)

	// Stat describes the object.
	Stat(ctx context.Context, name string) (Info, error)

	// List calls fn, in this goroutine and in no promised order, for each
	// object whose name begins with prefix (any string, not only whole
	// parts). It may miss what was created lately and show what was deleted
	// lately: a hint. An error of fn ends it and is returned as it is.
	List(ctx context.Context, prefix string, fn func(Info) error) error

	// Delete removes the object; that there is none is no error.
	Delete(ctx context.Context, name string) error

	// String names the store for people and logs, without secrets.
	String() string

	// Close frees what the store holds. Open readers may break.
	Close() error
}
