// SPDX-License-Identifier: Apache-2.0

// Package mem is an object store in memory, for tests. It keeps the whole
// contract of objstore.Store, and lets a test look at and tamper with what is
// stored (Objects, Tamper) or go on from a frozen copy (Clone).
package mem
