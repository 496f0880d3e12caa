// SPDX-License-Identifier: Apache-2.0

package objstore

import (
	"context"
	"errors"
	"fmt"
)

// Class says what a caller may do about a store's error.
type Class uint8

const (
	// Permanent errors come again however often the call is repeated.
	Permanent Class = iota
	// Retryable errors may pass: throttling, time-outs, broken connections.
	// The call may have taken effect nevertheless.
	Retryable
	// NotExist: there is no such object.
	NotExist
	// Exists: there is such an object already.
	Exists
	// Denied: the credentials don't allow it.
	Denied
	// Full: no space or quota left.
	Full
	// Unreachable: the store's host was not found or refused the connection;
	// worth repeating for a bounded time. The call had no effect.
	Unreachable
	// Canceled: the caller's context ended.
	Canceled
)

var classNames = [...]string{"permanent", "retryable", "not exist", "exists", "denied", "full", "unreachable", "canceled"}

// String names the class for logs and metrics.
func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return fmt.Sprintf("class %d", uint8(c))
}

// Errors to match with errors.Is: an *Error matches that of its class.
var (
	ErrNotExist    = errors.New("object does not exist")
	ErrExists      = errors.New("object exists already")
	ErrFull        = errors.New("store is full")
	ErrDenied      = errors.New("access denied")
	ErrUnreachable = errors.New("store is unreachable")
	// ErrShort (of class Permanent) means that a range reaches past the end of its object.
	ErrShort = errors.New("object ends before the range asked for")
	// ErrUnsuitable (of class Permanent) means that the store lacks something a repository needs.
	ErrUnsuitable = errors.New("store can't hold a repository")
)

var sentinels = map[Class]error{
	NotExist: ErrNotExist, Exists: ErrExists, Full: ErrFull, Denied: ErrDenied, Unreachable: ErrUnreachable,
}

// Error is the error of a Store's method.
type Error struct {
	Op    string // "put", "get", "stat", "list", "delete", "open"
	Name  string // the object, or the prefix of a list; may be empty
	Class Class
	Err   error // says what happened in a sentence; may be nil where Class says it all
}

func (e *Error) Error() string {
	what := e.Op
	if e.Name != "" {
		what += " " + e.Name
	}
	switch {
	case e.Err != nil:
		return what + ": " + e.Err.Error()
	case sentinels[e.Class] != nil:
		return what + ": " + sentinels[e.Class].Error()
	}
	return what + ": " + e.Class.String() + " error"
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is matches the sentinel of the error's class.
func (e *Error) Is(target error) bool { return target != nil && sentinels[e.Class] == target }

// ClassOf returns the class of an error that comes from a Store, however
// wrapped; Canceled for a context's error, and Permanent for any other.
func ClassOf(err error) Class {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return Canceled
	}
	return Permanent
}

// ContextError returns nil while ctx lives and an *Error of class Canceled
// after that: how every Store's method begins.
func ContextError(ctx context.Context, op, name string) error {
	if err := ctx.Err(); err != nil {
		return &Error{Op: op, Name: name, Class: Canceled, Err: err}
	}
	return nil
}
