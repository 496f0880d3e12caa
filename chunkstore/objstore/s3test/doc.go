// SPDX-License-Identifier: Apache-2.0

// Package s3test starts a real S3 server for tests: versitygw, pinned in
// tools/servers, over a temporary directory and on a free port of 127.0.0.1.
// The first use on a machine builds it, which takes a minute or two. The
// server dies with the test, and with the test's process.
package s3test
