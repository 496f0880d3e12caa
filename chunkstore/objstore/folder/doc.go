// SPDX-License-Identifier: Apache-2.0

// Package folder is an object store in a directory of a local or network file
// system: an object is a file of the same name.
//
// An object is written to tmp/<random>, synced, and moved to its name by
// renameat2(RENAME_NOREPLACE), or by link() where the file system lacks that;
// then both directories are synced. A file system that offers neither way to
// create a name without replacing one is refused.
//
// The order of a Put's durable effects:
//
//	1  each directory on the way is made, and its parent synced, once per process
//	2  tmp/<random> is written and synced
//	3  tmp/<random> gets the object's name, which fails if that is taken
//	4  the object's directory is synced, then tmp
//
// So a name never shows a part of an object (I2), and what a Put reported is
// on disk (I3). A killed Put leaves a file in tmp, removed by the first Open a
// day later. Directories, once made, stay; removing them would race with Puts.
//
// Invariants beyond those of objstore:
//
//	F1  Everything is reached from one descriptor of the directory, held open:
//	    a folder that is unmounted or replaced beneath the process is not
//	    mistaken for an empty one (objstore I6).
//	F2  Put and large reads leave the page cache as they found it: the machine's
//	    cache belongs to its applications.
//
// A call that waits for a dead disk or NFS server can't be interrupted; its
// context is looked at between writes of a few megabytes.
package folder
