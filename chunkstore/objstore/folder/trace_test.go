// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/objtest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// trace is what reached a file system, in its order.
type trace struct {
	mu    sync.Mutex
	lines []string
}

func (tr *trace) add(op string, paths ...string) {
	for i, p := range paths {
		if p == "" {
			paths[i] = "."
		} else if strings.HasPrefix(p, objstore.TempDir+"/") {
			paths[i] = objstore.TempDir + "/RANDOM"
		}
	}
	line := strings.Join(append([]string{op}, paths...), " ")
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if op != "write" || len(tr.lines) == 0 || tr.lines[len(tr.lines)-1] != line { // a large write comes in parts
		tr.lines = append(tr.lines, line)
	}
}

// tracedNode is a file system over another that writes down what changes it.
type tracedNode struct {
	poorNode
	trace *trace
}

func (n *tracedNode) path(name string) string {
	return filepath.Join(n.Path(n.Root()), name)
}

func (n *tracedNode) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.trace.add("mkdir", n.path(name))
	return n.poorNode.Mkdir(ctx, name, mode, out)
}

func (n *tracedNode) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	n.trace.add("create", n.path(name))
	node, f, fuseFlags, errno := n.poorNode.Create(ctx, name, flags, mode, out)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	return node, tracedFile{f.(fs.FileWriter), f.(fs.FileFsyncer), f.(fs.FileReleaser)}, fuseFlags, 0
}

// tracedFile keeps the kernel from writing to the file below by itself.
type tracedFile struct {
	fs.FileWriter
	fs.FileFsyncer
	fs.FileReleaser
}

func (n *tracedNode) Write(ctx context.Context, f fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	n.trace.add("write", n.path(""))
	return f.(fs.FileWriter).Write(ctx, data, off)
}

func (n *tracedNode) Fsync(ctx context.Context, f fs.FileHandle, flags uint32) syscall.Errno {
	n.trace.add("sync", n.path(""))
	if file, ok := f.(fs.FileFsyncer); ok {
		return file.Fsync(ctx, flags)
	}
	return 0
}

// OpendirHandle returns a handle that can do nothing, so that its sync comes to
// the node.
func (n *tracedNode) OpendirHandle(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return struct{}{}, 0, 0
}

func (n *tracedNode) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.trace.add("link", target.EmbeddedInode().Path(n.Root()), n.path(name))
	return n.poorNode.Link(ctx, target, name, out)
}

func (n *tracedNode) Rename(ctx context.Context, name string, parent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	to := filepath.Join(parent.EmbeddedInode().Path(n.Root()), newName)
	n.trace.add(fmt.Sprintf("rename flags=%d", flags), n.path(name), to)
	if n.noFlags && flags != 0 {
		return syscall.EINVAL
	}
	return n.LoopbackNode.Rename(ctx, name, parent, newName, flags)
}

func (n *tracedNode) Unlink(ctx context.Context, name string) syscall.Errno {
	n.trace.add("unlink", n.path(name))
	return n.poorNode.Unlink(ctx, name)
}

// The order of a Put's durable effects is the store's promise (I2, I3). A
// change of the golden files is a change of that promise: think of a power cut
// between any two lines.
func TestOrderOfEffects(t *testing.T) {
	for name, noFlags := range map[string]bool{"rename": false, "link": true} {
		t.Run(name, func(t *testing.T) {
			tr := &trace{}
			s := open(t, mountFuse(t, func(below *fs.LoopbackRoot) fs.InodeEmbedder {
				return &tracedNode{poorNode: poorNode{LoopbackNode: fs.LoopbackNode{RootData: below}, noFlags: noFlags}, trace: tr}
			}))
			put := func(name string) {
				tr.add("# put", name)
				err := s.Put(t.Context(), name, objstore.Body{objtest.Bytes(1, 300_000)})
				if err != nil {
					tr.add("# " + objstore.ClassOf(err).String())
				}
			}
			put("packs/1/first")
			put("packs/1/second")
			put("packs/1/second")
			checkGolden(t, filepath.Join("testdata", name+".trace"), tr.lines)
		})
	}
}

func checkGolden(t *testing.T, path string, lines []string) {
	t.Helper()
	got := strings.Join(slices.Clone(lines), "\n") + "\n"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", path, d)
	}
}
