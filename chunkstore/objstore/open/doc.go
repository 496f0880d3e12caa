// SPDX-License-Identifier: Apache-2.0

// Package open finds the object store that an address means: s3://bucket/prefix,
// or the path of a folder (also as file:///path). Neither Open nor Create
// stacks a decorator around it.
package open
