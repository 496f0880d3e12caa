// SPDX-License-Identifier: Apache-2.0

// Package looptest gives tests real block devices: loop devices over sparse files, file systems on them, and
// a file with unreadable places.
//
// Every function skips the test, with the reason, where the machine does not allow what it needs (root,
// /dev/loop-control, /dev/fuse, mkfs), and takes back what it did when the test ends, in reverse order.
// Start with SparseFile and Attach.
package looptest
