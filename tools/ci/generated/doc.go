// SPDX-License-Identifier: Apache-2.0

// Command generated runs every generator of the module and fails if that changes the work tree: generated files are committed,
// and no other way than by their generator. Changes not yet committed do not matter, only what the generators add to them.
package main
