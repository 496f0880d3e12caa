// SPDX-License-Identifier: Apache-2.0

// Package objstore is where a repository's objects live: one small interface,
// Store, over a folder, a bucket or memory, and the errors they share.
//
// An object is a name and bytes. It is created once, never changed, and read
// whole or in ranges. Everything above this package rests on these rules, and
// the suite in package objtest checks them for every store and decorator:
//
//	I1  Create once. Of any number of Puts of one name, in any number of
//	    processes, exactly one succeeds; the others get ErrExists and change
//	    nothing. There is no overwrite.
//	I2  All or nothing. An object is visible under its name with all its bytes
//	    or not at all, whatever is killed, cut or filled up meanwhile.
//	I3  Durable at return. When Put returns nil the object survives a power cut
//	    (as far as the file system or the service keeps its own word).
//	I4  Read after write. Once Put returned, every Get and Stat of that name
//	    sees the object, from any process. Nothing is promised about List.
//	I5  Never short in silence. A reader yields exactly the bytes asked for and
//	    then io.EOF, or an error; a range that reaches past the object's end is
//	    ErrShort.
//	I6  Absence is said by ErrNotExist alone. A missing bucket, a refused
//	    permission or a lost network is never mistaken for a missing object.
//	I7  Errors are classed once, here: every error of a Store is an *Error
//	    whose Class says what a caller may do about it.
//
// Names are slash-separated, valid UTF-8, at most 1000 bytes with at most 255
// in each part (see CheckName). A name must not continue another one's: with
// an object "a", "a/b" can't exist in a folder. The first part "tmp" is
// reserved for a store's own use.
//
// Start with Store, then Error. The stores are in folder, s3 and mem; package
// open picks one by URL. The decorators are retry, meter and fault; a backend
// itself never retries, counts or breaks.
package objstore
