// SPDX-License-Identifier: Apache-2.0

// Package fault makes an object store misbehave on request: a decorator that
// follows a script. Scripts are text, so a failing random test can print the
// one it ran, and it can be run again.
//
// A script has one rule per line (or per semicolon); # begins a comment:
//
//	OPERATION GLOB [WHEN…] ACTION…
//	seed NUMBER                          for p=, once, anywhere
//
// OPERATION is put, get, stat, list, delete or any. GLOB matches the object's
// name (of list: the prefix); * stands for any bytes, slashes too, ? for one.
// Every rule counts the calls that match it. With all of WHEN given, it fires on
//
//	nth=N      the Nth of them only (from 1)
//	from=N     the Nth and later
//	every=N    each Nth
//	p=F        each with probability F
//	times=N    at most N times in all
//
// and without any, on every one. Of several rules the first that fires acts:
//
//	error=CLASS   the call isn't made; the error is of that class (retryable, not-exist,
//	              exists, denied, full, unreachable, permanent)
//	lost          the call is made, its success answered by a retryable error
//	taken         put: the object is stored, the answer is that it exists already
//	cut=N         get: the body breaks after N bytes; put: only N bytes are stored, and success reported
//	flip=N        get, put: byte N of the body is wrong, and success reported
//	delay=D       before anything else, wait (for the context too)
//	crash         the call isn't made; it and all later ones fail with ErrCrashed
//	crash-after   the call is made; it and all later ones fail with ErrCrashed
package fault
