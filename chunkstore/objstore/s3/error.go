// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
)

// wrap classes whatever minio-go returned (objstore I7) and says it in words.
func (s *Store) wrap(ctx context.Context, op, name string, err error) error {
	if cause := ctx.Err(); cause != nil {
		return &objstore.Error{Op: op, Name: name, Class: objstore.Canceled, Err: cause}
	}
	e := &objstore.Error{Op: op, Name: name}
	if r, ok := errors.AsType[minio.ErrorResponse](err); ok {
		e.Class, e.Err = s.answered(op, r)
	} else {
		e.Class, e.Err = s.unanswered(err)
	}
	return e
}

// byCode classes the codes of S3 and its relatives whose status says too little.
var byCode = map[string]objstore.Class{
	"NoSuchKey":           objstore.NotExist,
	"NoSuchVersion":       objstore.NotExist,
	"NoSuchObject":        objstore.NotExist,
	"PreconditionFailed":  objstore.Exists,
	"SlowDown":            objstore.Retryable,
	"SlowDownRead":        objstore.Retryable,
	"SlowDownWrite":       objstore.Retryable,
	"RequestTimeout":      objstore.Retryable,
	"Throttling":          objstore.Retryable,
	"ThrottlingException": objstore.Retryable,
	"RequestThrottled":    objstore.Retryable,
	"InternalError":       objstore.Retryable,
	"OperationAborted":    objstore.Retryable,
	"IncompleteBody":      objstore.Retryable,
	// Damaged on the way: we computed the sum over what we sent.
	"BadDigest":                      objstore.Retryable,
	"XAmzContentChecksumMismatch":    objstore.Retryable,
	"ConditionalRequestConflict":     objstore.Retryable, // another create of this name is under way
	"QuotaExceeded":                  objstore.Full,
	"InsufficientStorage":            objstore.Full,
	"XMinioStorageFull":              objstore.Full,
	"XMinioBucketQuotaExceeded":      objstore.Full,
	"XMinioAdminBucketQuotaExceeded": objstore.Full,
	"NotImplemented":                 objstore.Permanent,
	"RequestTimeTooSkewed":           objstore.Permanent,
	"NoSuchBucket":                   objstore.Permanent, // S3
	"InvalidAccessKeyId":             objstore.Denied,
	"XAdminUserNotFound":             objstore.Denied, // versitygw, with 404
	"SignatureDoesNotMatch":          objstore.Denied,
	"ExpiredToken":                   objstore.Denied,
	"InvalidToken":                   objstore.Denied,
	"AuthorizationHeaderMalformed":   objstore.Permanent,
	"PermanentRedirect":              objstore.Permanent,
}

// answered classes the store's own answer.
func (s *Store) answered(op string, r minio.ErrorResponse) (objstore.Class, error) {
	class, known := byCode[r.Code]
	if !known {
		class = byStatus(r.StatusCode)
	}
	if class == objstore.Exists && op != "put" {
		class = objstore.Permanent
	}
	switch {
	case class == objstore.NotExist || class == objstore.Exists:
		return class, nil
	case r.Code == minio.NoSuchBucket:
		return class, s.noBucket()
	case r.Code == "RequestTimeTooSkewed":
		return class, fmt.Errorf("this machine's clock differs too much from that of %s: %w", s.config.endpoint(), r)
	case isElsewhere(r):
		return objstore.Permanent, fmt.Errorf("bucket %s is in another region than %q%s: set AWS_REGION (%w)", s.config.Bucket, s.config.Region, regionHint(r), r)
	case class == objstore.Denied:
		return class, fmt.Errorf("access to bucket %s denied at %s: %w%s", s.config.Bucket, s.config.endpoint(), r, deniedHint(op))
	case class == objstore.Full:
		return class, fmt.Errorf("bucket %s at %s is full or over its quota: %w", s.config.Bucket, s.config.endpoint(), r)
	case op == "put" && (r.StatusCode == http.StatusNotImplemented || r.Code == "NotImplemented"):
		return objstore.Permanent, fmt.Errorf("%w: %s knows no conditional create (If-None-Match): %w", objstore.ErrUnsuitable, s.config.endpoint(), r)
	}
	return class, fmt.Errorf("%s answers %d %s: %w", s.config.endpoint(), r.StatusCode, r.Code, r)
}

// byStatus classes an answer with a code that we don't know. A missing object
// and a failed condition have codes (minio-go adds them to answers without a
// body); other things may be missing, too (I6).
func byStatus(status int) objstore.Class {
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return objstore.Denied
	case status == http.StatusInsufficientStorage:
		return objstore.Full
	case status == http.StatusNotImplemented || status == http.StatusHTTPVersionNotSupported:
		return objstore.Permanent
	case status >= 500 || status == http.StatusRequestTimeout || status == http.StatusTooManyRequests || status == 499:
		return objstore.Retryable
	}
	return objstore.Permanent
}

func isElsewhere(r minio.ErrorResponse) bool {
	return r.Code == "AuthorizationHeaderMalformed" || r.Code == "PermanentRedirect" || r.Code == "IllegalLocationConstraintException" ||
		r.StatusCode == http.StatusMovedPermanently || r.StatusCode == http.StatusTemporaryRedirect
}

func regionHint(r minio.ErrorResponse) string {
	if r.Region == "" {
		return ""
	}
	return ", it is in " + r.Region
}

// deniedHint tells of a trap of Amazon's permissions.
func deniedHint(op string) string {
	if op == "get" || op == "stat" {
		return " (a missing object is answered so, too, where s3:ListBucket is not granted)"
	}
	return ""
}

// unanswered classes what went wrong before the store could answer.
func (s *Store) unanswered(err error) (objstore.Class, error) {
	at := s.config.endpoint()
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // its URL holds no more than we know, and nothing for people
	}
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &dns):
		return objstore.Unreachable, fmt.Errorf("host of %s not found: %w", at, err)
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH),
		errors.As(err, &op) && op.Op == "dial":
		return objstore.Unreachable, fmt.Errorf("no connection to %s: %w", at, err)
	case isTLS(err):
		return objstore.Permanent, fmt.Errorf("the identity of %s can't be verified: %w", at, err)
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return objstore.Permanent, fmt.Errorf("%s doesn't speak TLS: write http:// if the network may see everything", at)
	case isBroken(err):
		return objstore.Retryable, fmt.Errorf("connection to %s broke: %w", at, err)
	}
	return objstore.Permanent, fmt.Errorf("%s: %w", at, err)
}

func isTLS(err error) bool {
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var record tls.RecordHeaderError
	return errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &record)
}

func isBroken(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ETIMEDOUT) || errors.Is(err, net.ErrClosed) ||
		// These have no other type: of minio-go, of net/http.
		strings.Contains(err.Error(), "Connection closed by foreign host") || strings.Contains(err.Error(), "http: ") || strings.Contains(err.Error(), "transport connection broken")
}
