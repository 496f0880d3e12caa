// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"context"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
)

// wrap makes an error of the system an *objstore.Error with its class.
func wrap(op, name string, err error) error {
	if _, ok := errors.AsType[*objstore.Error](err); ok {
		return err
	}
	class := classify(err)
	if op == "open" && class == objstore.NotExist {
		class = objstore.Permanent // it is no object that is missing (objstore I6)
	}
	return &objstore.Error{Op: op, Name: name, Class: class, Err: err}
}

func classify(err error) objstore.Class {
	if errors.Is(err, objstore.ErrUnsuitable) || errors.Is(err, objstore.ErrShort) {
		return objstore.Permanent
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return objstore.Canceled
	}
	errno, ok := errors.AsType[unix.Errno](err)
	if !ok {
		return objstore.Permanent
	}
	switch errno {
	case unix.ENOENT, unix.ENOTDIR:
		return objstore.NotExist
	case unix.EEXIST:
		return objstore.Exists
	case unix.ENOSPC, unix.EDQUOT:
		return objstore.Full
	case unix.EACCES, unix.EPERM, unix.EROFS:
		return objstore.Denied
	case unix.ESTALE, unix.ETIMEDOUT, unix.EAGAIN, unix.EBUSY, unix.EMFILE, unix.ENFILE, unix.ENOMEM:
		return objstore.Retryable
	case unix.ECONNREFUSED, unix.EHOSTDOWN, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENOTCONN:
		return objstore.Unreachable
	}
	return objstore.Permanent
}

func isAbsent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EBADF)
}

// bare takes the path off an error whose message will name it anyway.
func bare(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}
