// SPDX-License-Identifier: Apache-2.0

// Package meter counts what passes through an object store: calls, failures
// and bytes, exactly. Around retry it counts what the caller asked for; inside
// of it, what went to the store.
package meter
