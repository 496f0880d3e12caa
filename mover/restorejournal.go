// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/blockio"
	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/pack"
)

// ErrRestoreBusy is returned when another process of this machine restores the
// same point to the same target.
var ErrRestoreBusy = errors.New("another restore of this point to this target is running on this machine")

// restoreJournal lets a killed restore go on. It names what was written to the
// target and synced there, never more; everything else is done again. It is
// believed only for the very target that it was written for, and only where
// that has kept its size.
//
// Batches are numbered; the same map and the same batch cost, which the header
// keeps, make the same batches again. A record's chunks are those of one batch:
// a chunk may have extents in several.
type restoreJournal struct {
	*journal
	target    *blockio.Target
	dir       string
	batchCost int
	syncBytes int64
	step      func() // around each sync; nil: nothing
	resumed   string

	old   map[uint32]*finished // by batch; what an earlier run has synced
	now   *finished            // of the batch being planned
	mu    sync.Mutex
	fresh map[uint32]*finished // written, not synced
	bytes int64                // of the volume, in fresh
	wake  chan struct{}
}

// finished is what is done of a batch.
type finished struct {
	keys  map[chunkKey]struct{}
	list  []chunkKey
	zeros bool
}

// chunkKey stands for a chunk's name: 128 bits of keyed BLAKE3.
type chunkKey [16]byte

const (
	recordRestore = 'R' // JSON restoreHeader; the first record
	recordDone    = 'D' // u32 batch, then chunkKeys
	recordZeroed  = 'Z' // u32 batch

	restoreJournalVersion = 1
)

// restoreHeader says what the interrupted restore was doing.
type restoreHeader struct {
	Version    int      `json:"version"`
	Repository string   `json:"repository"`
	Point      string   `json:"point"`
	Root       string   `json:"root"`
	Size       int64    `json:"size"`
	Target     lookedAt `json:"target"`
	BatchCost  int      `json:"batchCost"`
}

// lookedAt identifies a target. A file is its inode and birth, for numbers of
// inodes are used again; a device its number and, within one boot of the
// machine, the sequence number of what is attached to it.
type lookedAt struct {
	Device bool   `json:"device"`
	Dev    uint64 `json:"dev"` // of a device, its own number
	Ino    uint64 `json:"ino,omitempty"`
	Birth  int64  `json:"birth,omitempty"`
	Seq    string `json:"seq,omitempty"`
	Boot   string `json:"boot,omitempty"`
	size   int64  // of a file
}

// lookAt looks at a target before it is opened, which may change its size. A
// path that does not exist gives the zero value.
func lookAt(path string) (l lookedAt, err error) {
	var st unix.Statx_t
	err = unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return l, fmt.Errorf("open target: %w", &fs.PathError{Op: "stat", Path: path, Err: err})
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		l = lookedAt{Dev: unix.Mkdev(st.Dev_major, st.Dev_minor), Ino: st.Ino, size: int64(st.Size)}
		if st.Mask&unix.STATX_BTIME != 0 {
			l.Birth = st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
		}
		return l, nil
	}
	l = lookedAt{Device: true, Dev: unix.Mkdev(st.Rdev_major, st.Rdev_minor)}
	sys := fmt.Sprintf("/sys/dev/block/%d:%d", st.Rdev_major, st.Rdev_minor)
	for _, f := range []string{sys + "/diskseq", sys + "/../diskseq"} { // a partition's is its disk's
		if data, err := os.ReadFile(f); err == nil {
			l.Seq = strings.TrimSpace(string(data))
			break
		}
	}
	if data, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		l.Boot = strings.TrimSpace(string(data))
	}
	return l, nil
}

// believable tells whether what a journal says of target o may hold for l.
func (l lookedAt) believable(o lookedAt, size int64) bool {
	kept := l.Device || l.size == size
	l.size, o.size = 0, 0
	return kept && l == o
}

// openRestoreJournal locks the journal of this point and target, and reads what
// an earlier run has done.
func openRestoreJournal(r *restore, t *blockio.Target, seen lookedAt) (*restoreJournal, error) {
	dir := filepath.Join(r.repo.Dir(), "restores")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of restore journals: %w", err)
	}
	abs, err := filepath.Abs(t.Path())
	if err != nil {
		return nil, err
	}
	sum := blake3.Sum256([]byte(r.point.ID + "\x00" + abs))
	path := filepath.Join(dir, hex.EncodeToString(sum[:16]))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the restore journal: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrRestoreBusy
		}
		return nil, errors.Join(err, f.Close())
	}
	j := &restoreJournal{
		journal: &journal{f: f, w: bufio.NewWriterSize(f, 64<<10), path: path}, target: t, batchCost: r.plan.batchCost, syncBytes: r.plan.syncBytes,
		old: map[uint32]*finished{}, fresh: map[uint32]*finished{}, wake: make(chan struct{}, 1),
	}
	if err := j.start(r, t, seen); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return j, nil
}

// start goes on with the journal that is there, or begins a new one.
func (j *restoreJournal) start(r *restore, t *blockio.Target, seen lookedAt) error {
	now, err := lookAt(t.Path())
	if err != nil {
		return err
	}
	head := restoreHeader{
		Version: restoreJournalVersion, Repository: r.repo.Config().ID, Point: r.point.ID, Root: r.point.Root,
		Size: r.point.Size, Target: now, BatchCost: r.plan.batchCost,
	}
	head.Target.size = 0 // not part of who it is
	if !t.Fresh() && seen.believable(now, r.point.Size) && j.load(head) {
		return nil
	}
	clear(j.old)
	data, err := json.Marshal(head)
	if err != nil {
		return err
	}
	j.w.Reset(j.f)
	if err := j.f.Truncate(0); err != nil {
		return fmt.Errorf("empty the restore journal: %w", err)
	}
	if _, err := j.f.Seek(0, 0); err != nil {
		return err
	}
	if err := j.append(recordRestore, data); err != nil {
		return err
	}
	return j.sync()
}

// load reads the journal; false if it is another's, or of no use.
func (j *restoreJournal) load(want restoreHeader) bool {
	var head restoreHeader
	chunks, end := 0, int64(0)
	err := j.replay(func(kind byte, payload []byte) error {
		end += int64(9 + len(payload))
		if kind == recordRestore {
			return json.Unmarshal(payload, &head)
		}
		if len(payload) < 4 || kind == recordDone && (len(payload)-4)%len(chunkKey{}) != 0 {
			return errStop
		}
		f := j.old[binary.LittleEndian.Uint32(payload)]
		if f == nil {
			f = &finished{keys: map[chunkKey]struct{}{}}
			j.old[binary.LittleEndian.Uint32(payload)] = f
		}
		f.zeros = f.zeros || kind == recordZeroed
		if kind == recordDone {
			for b := payload[4:]; len(b) > 0; b = b[len(chunkKey{}):] {
				f.keys[chunkKey(b)] = struct{}{}
				chunks++
			}
		}
		return nil
	})
	cost := head.BatchCost
	head.BatchCost = want.BatchCost
	// What was planned with more memory than there is now can't be planned again.
	if err != nil || head != want || cost > want.BatchCost || cost <= 0 || len(j.old) == 0 {
		return false
	}
	// A torn record at the end must not hide what is appended.
	if j.f.Truncate(end) != nil {
		return false
	}
	if _, err := j.f.Seek(end, 0); err != nil {
		return false
	}
	j.batchCost = cost
	j.resumed = fmt.Sprintf("%d chunks were written and synced before", chunks)
	return true
}

// enter is told which batch is planned next, and tells whether its zeros are made.
func (j *restoreJournal) enter(batch uint32) (zeros bool) {
	j.now = j.old[batch]
	return j.now != nil && j.now.zeros
}

// known tells whether an earlier run has done a chunk of the batch being planned.
func (j *restoreJournal) known(id chunk.ID) (plain int, in uint32, ok bool) {
	if j.now == nil {
		return 0, 0, false
	}
	_, ok = j.now.keys[chunkKey(id[:16])]
	return pack.MaxPlain, packDone, ok
}

func (j *restoreJournal) batch(number uint32) *finished {
	f := j.fresh[number]
	if f == nil {
		f = new(finished)
		j.fresh[number] = f
	}
	return f
}

// written is told what reached the target; it is recorded after the next sync.
func (j *restoreJournal) written(b *batch, chunks []uint32) {
	j.mu.Lock()
	f := j.batch(b.number)
	for _, i := range chunks {
		c := &b.chunks[i]
		f.list = append(f.list, chunkKey(c.ID[:16]))
		j.bytes += int64(c.Plain)
	}
	due := j.bytes >= j.syncBytes
	j.mu.Unlock()
	if due {
		select {
		case j.wake <- struct{}{}:
		default:
		}
	}
}

func (j *restoreJournal) zeroed(b *batch) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.batch(b.number).zeros = true
}

// syncLoop syncs the target from time to time and then records what that made durable.
func (j *restoreJournal) syncLoop(ctx context.Context, stop <-chan struct{}) error {
	for {
		select {
		case <-j.wake:
		case <-stop:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := j.record(ctx); err != nil {
			return err
		}
	}
}

// record takes what is written by now, syncs the target, and only then writes
// it down.
func (j *restoreJournal) record(ctx context.Context) error {
	j.mu.Lock()
	done := j.fresh
	j.fresh, j.bytes = map[uint32]*finished{}, 0
	j.mu.Unlock()
	if j.step != nil {
		j.step()
		defer j.step()
	}
	if err := j.target.Sync(ctx); err != nil {
		return err
	}
	for number, f := range done {
		head := binary.LittleEndian.AppendUint32(j.buf[:0], number)
		if f.zeros {
			if err := j.append(recordZeroed, head); err != nil {
				return err
			}
		}
		j.buf = head
		for i := range f.list {
			j.buf = append(j.buf, f.list[i][:]...)
		}
		if err := j.append(recordDone, j.buf); err != nil {
			return err
		}
	}
	return j.sync()
}

// close unlocks the journal; after a finished restore nobody needs it.
func (j *restoreJournal) close(finished bool) error {
	if !finished {
		return j.journal.close()
	}
	return errors.Join(os.Remove(j.path), j.f.Close())
}
