// SPDX-License-Identifier: Apache-2.0

// Package retry repeats a store's calls that failed for a reason that may pass.
//
//	T1  Only errors of class Retryable and Unreachable are repeated, with growing
//	    and jittered pauses, for at most Policy.MaxElapsed per call. Until a store
//	    has answered for the first time, an unreachable one is given up after
//	    Policy.FirstContact: most likely its address is wrong.
//	T2  A Put that fails retryably may have taken effect. Before it is sent again,
//	    and when a later attempt hears that the name is taken, the object is looked
//	    at: if it holds exactly the body, the Put has succeeded; if not, ErrExists.
//	    So two writers that put equal bytes under one name may both succeed after
//	    trouble. Who must know which of them won puts something of its own into them.
//	T3  A reader that breaks is continued where it broke, by another Get. An
//	    attempt that yielded bytes sets the pauses and the time back.
//	T4  List is not repeated once it has shown an object: the caller would see
//	    objects twice. What it began, it ends, or it fails.
//
// Neither a session's end nor any other decision rests on these times.
package retry
