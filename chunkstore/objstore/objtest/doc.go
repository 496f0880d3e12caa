// SPDX-License-Identifier: Apache-2.0

// Package objtest is the conformance suite of objstore.Store: what a store or
// a decorator must do so that a repository can lie in it. Each test names the
// invariant of package objstore that it checks. Start with Run.
package objtest
