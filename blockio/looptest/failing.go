// SPDX-License-Identifier: Apache-2.0

package looptest

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

const pageSize = 4096

// Range is a part of a file: Length bytes from Offset.
type Range struct{ Offset, Length int64 }

// FillPattern writes into p what FailingFile holds at off until it is overwritten: every 8 bytes are a mix
// of their own offset.
func FillPattern(p []byte, off int64) {
	var word [8]byte
	for i := range p {
		at := off + int64(i)
		if i == 0 || at%8 == 0 {
			x := uint64(at/8) + 0x9e3779b97f4a7c15
			x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
			binary.LittleEndian.PutUint64(word[:], x^x>>27)
		}
		p[i] = word[at%8]
	}
}

// FailingFile returns the path of a file of size bytes in which every read or write that touches one of the
// bad ranges fails with EIO. It lives in the memory of the test, holds FillPattern, can be written elsewhere,
// and knows no fallocate. Attach it to get a device with bad sectors.
func FailingFile(t testing.TB, size int64, bad []Range) string {
	t.Helper()
	RequireRoot(t)
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skipf("needs FUSE: %v", err)
	}
	dir := t.TempDir()
	root := &failingRoot{file: &failingFile{size: size, bad: bad, written: map[int64]*[pageSize]byte{}}}
	server, err := fs.Mount(dir, root, &fs.Options{MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "failing"}})
	if err != nil {
		t.Skipf("needs FUSE mounts: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
			unmount(t, dir)
			return
		}
		server.Wait()
	})
	return filepath.Join(dir, "file")
}

type failingRoot struct {
	fs.Inode
	file *failingFile
}

// OnAdd puts the one file into the directory.
func (r *failingRoot) OnAdd(ctx context.Context) {
	r.AddChild("file", r.NewPersistentInode(ctx, r.file, fs.StableAttr{Mode: fuse.S_IFREG}), false)
}

type failingFile struct {
	fs.Inode
	size int64
	bad  []Range

	mu      sync.Mutex
	written map[int64]*[pageSize]byte // by page number
}

func (f *failingFile) touchesBad(off, n int64) bool {
	for _, r := range f.bad {
		if off < r.Offset+r.Length && r.Offset < off+n {
			return true
		}
	}
	return false
}

// Getattr is part of fs.NodeGetattrer.
func (f *failingFile) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = fuse.S_IFREG|0o600, uint64(f.size)
	return 0
}

// Setattr accepts a change to the size that the file has.
func (f *failingFile) Setattr(ctx context.Context, h fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok && size != uint64(f.size) {
		return syscall.EPERM
	}
	return f.Getattr(ctx, h, out)
}

// Open is part of fs.NodeOpener.
func (f *failingFile) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, 0, 0
}

// Read is part of fs.NodeReader.
func (f *failingFile) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if off >= f.size {
		return fuse.ReadResultData(nil), 0
	}
	dest = dest[:min(int64(len(dest)), f.size-off)]
	if f.touchesBad(off, int64(len(dest))) {
		return nil, syscall.EIO
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for done := 0; done < len(dest); {
		at := off + int64(done)
		part := dest[done:min(len(dest), done+int(pageSize-at%pageSize))]
		if page := f.written[at/pageSize]; page != nil {
			copy(part, page[at%pageSize:])
		} else {
			FillPattern(part, at)
		}
		done += len(part)
	}
	return fuse.ReadResultData(dest), 0
}

// Write is part of fs.NodeWriter.
func (f *failingFile) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	if off+int64(len(data)) > f.size {
		return 0, syscall.EFBIG
	}
	if f.touchesBad(off, int64(len(data))) {
		return 0, syscall.EIO
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for done := 0; done < len(data); {
		at := off + int64(done)
		page := f.written[at/pageSize]
		if page == nil {
			page = new([pageSize]byte)
			FillPattern(page[:], at-at%pageSize)
			f.written[at/pageSize] = page
		}
		done += copy(page[at%pageSize:], data[done:])
	}
	return uint32(len(data)), 0
}

// Fsync is part of fs.NodeFsyncer: memory has nothing to do.
func (f *failingFile) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno { return 0 }
