// SPDX-License-Identifier: Apache-2.0

package looptest_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/blockio/looptest"
)

func TestAttachShowsTheFileAndIsTakenBack(t *testing.T) {
	image := looptest.SparseFile(t, 1<<20)
	var dev string
	t.Run("attached", func(t *testing.T) {
		dev = looptest.Attach(t, image)
		if err := os.WriteFile(dev, bytes.Repeat([]byte{9}, 4096), 0); err != nil {
			t.Fatal(err)
		}
		back, err := os.ReadFile(dev)
		if err != nil || len(back) != 1<<20 || back[4095] != 9 || back[4096] != 0 {
			t.Fatalf("read back %d bytes: %v", len(back), err)
		}
	})
	if dev == "" {
		t.Skip("nothing was attached")
	}
	got, err := os.ReadFile("/sys/block/" + filepath.Base(dev) + "/loop/backing_file")
	if err == nil && string(bytes.TrimSpace(got)) == image {
		t.Errorf("%s is still attached to %s", dev, image)
	}
	content, err := os.ReadFile(image)
	if err != nil || content[0] != 9 {
		t.Errorf("what was written to the device is not in the file: %v", err)
	}
}

func TestMountedFileSystems(t *testing.T) {
	for fs, size := range map[string]int64{"ext4": 16 << 20, "xfs": 320 << 20, "btrfs": 160 << 20} {
		t.Run(fs, func(t *testing.T) {
			dir, _ := looptest.MountedFS(t, fs, size)
			if err := os.WriteFile(filepath.Join(dir, "a"), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestFailingFile(t *testing.T) {
	path := looptest.FailingFile(t, 64<<10+100, []looptest.Range{{Offset: 8192, Length: 1}})
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	page, want := make([]byte, 4096), make([]byte, 4096)
	for _, off := range []int64{0, 4096, 12288, 60 << 10} {
		looptest.FillPattern(want, off)
		if _, err := f.ReadAt(page, off); err != nil || !bytes.Equal(page, want) {
			t.Errorf("page at %d: %v, equal %v", off, err, bytes.Equal(page, want))
		}
	}
	if _, err := f.ReadAt(page, 8192); !errors.Is(err, unix.EIO) {
		t.Errorf("read of the bad page: %v", err)
	}
	if _, err := f.WriteAt(page, 8192); !errors.Is(err, unix.EIO) {
		t.Errorf("write to the bad page: %v", err)
	}
	if _, err := f.WriteAt([]byte("hello"), 4090); err != nil {
		t.Fatal(err)
	}
	looptest.FillPattern(want, 0)
	copy(want[4090:], "hello")
	if _, err := f.ReadAt(page, 0); err != nil || !bytes.Equal(page, want) {
		t.Errorf("page after a write: %v, equal %v", err, bytes.Equal(page, want))
	}
}
