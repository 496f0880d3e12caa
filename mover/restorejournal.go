// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/blockio"
)

// ErrRestoreBusy is returned when another process of this machine restores to
// the same target, whatever point.
var ErrRestoreBusy = errors.New("another restore to this target is running on this machine")

// restoreJournal lets a killed restore go on. There is one per target, whose
// lock keeps other restores away; a run that does not go on with what it finds
// there empties it, durably, before it writes. It names ranges of the volume
// that were written to the target and synced there.
//
// Nothing of that is believed: a mount, a user or a restore that had another
// cache may have written to the target since. So the named ranges are compared
// with the point, and what is not named is written without comparing. The
// journal only tells which of the two is cheaper, and where it names too much
// (ranges are joined to bound their number) nothing but a comparison is lost.
type restoreJournal struct {
	*journal
	target    *blockio.Target
	syncBytes int64
	around    func(done bool)  // called before and after each sync; nil: nothing
	old       blockdiff.Ranges // what an earlier run of the same restore has synced

	mu    sync.Mutex
	fresh roughRanges // written, not synced
	bytes int64       // of the volume, in fresh
	wake  chan struct{}
}

const (
	recordRestore = 'R' // JSON restoreHeader; the first record
	recordWritten = 'W' // ranges: u64 offset, u64 length each

	restoreJournalVersion = 2
	writtenBytes          = 16

	maxWritten    = 1 << 12  // ranges of a record
	maxOldWritten = 1 << 16  // and of a journal
	oldAlign      = 64 << 10 // the largest digest piece: those at the edges are compared whole
)

// restoreHeader says what the interrupted restore was doing.
type restoreHeader struct {
	Version    int      `json:"version"`
	Repository string   `json:"repository"`
	Point      string   `json:"point"`
	Root       string   `json:"root"`
	Size       int64    `json:"size"`
	Target     lookedAt `json:"target"`
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

// same tells whether what a journal says of target o may hold for l, which had
// its size when it was looked at.
func (l lookedAt) same(o lookedAt, size int64) bool {
	kept := l.Device || l.size == size
	l.size, o.size = 0, 0
	return kept && l == o
}

// name is what a target's journal is called by: a device's number, for it has
// many paths, and a file's path.
func (l lookedAt) name(path string) (string, error) {
	if l.Device {
		return fmt.Sprintf("device %d", l.Dev), nil
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("name the restore journal: %w", err)
	}
	if found, err := filepath.EvalSymlinks(abs); err == nil {
		return "file " + found, nil
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(abs)) // the file is yet to be created
	if err != nil {
		return "", fmt.Errorf("open target: %w", err)
	}
	return "file " + filepath.Join(dir, filepath.Base(abs)), nil
}

// openRestoreJournal locks the journal of a target. That comes before the
// target is opened, which may already change its size.
func openRestoreJournal(r *restore, seen lookedAt) (*restoreJournal, error) {
	name, err := seen.name(r.opt.Target)
	if err != nil {
		return nil, err
	}
	sum := blake3.Sum256([]byte(name))
	j, err := openJournal(r.repo.Dir(), "restore-"+hex.EncodeToString(sum[:16]))
	if errors.Is(err, ErrBusy) {
		err = ErrRestoreBusy
	}
	if err != nil {
		return nil, err
	}
	return &restoreJournal{
		journal: j, syncBytes: r.plan.syncBytes, around: r.opt.sync,
		fresh: roughRanges{limit: maxWritten}, wake: make(chan struct{}, 1),
	}, nil
}

// start goes on with the journal that is there, or begins a new one.
func (j *restoreJournal) start(r *restore, t *blockio.Target, seen lookedAt) error {
	now, err := lookAt(t.Path())
	if err != nil {
		return err
	}
	head := restoreHeader{
		Version: restoreJournalVersion, Repository: r.repo.Config().ID, Point: r.point.ID, Root: r.point.Root,
		Size: r.point.Size, Target: now,
	}
	head.Target.size = 0 // not part of who it is
	j.target = t
	if !t.Fresh() && seen.same(now, r.point.Size) && j.load(head) {
		return nil
	}
	if err := j.empty(); err != nil {
		return err
	}
	data, err := json.Marshal(head)
	if err != nil {
		return err
	}
	if err := j.append(recordRestore, data); err != nil {
		return err
	}
	return j.sync()
}

// empty forgets what another restore of the target had done, durably.
func (j *restoreJournal) empty() error {
	j.old = nil
	j.w.Reset(j.f)
	if err := j.f.Truncate(0); err != nil {
		return fmt.Errorf("empty the restore journal: %w", err)
	}
	if _, err := j.f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("empty the restore journal: %w", err)
	}
	return j.sync()
}

// load reads the journal; false if it is another's, or of no use.
func (j *restoreJournal) load(want restoreHeader) bool {
	var head restoreHeader
	done, end := roughRanges{limit: maxOldWritten}, int64(0)
	err := j.replay(func(kind byte, payload []byte) error {
		end += int64(9 + len(payload))
		switch kind {
		case recordRestore:
			return json.Unmarshal(payload, &head)
		case recordWritten:
			return decodeWritten(payload, done.add)
		default:
			return errStop
		}
	})
	if err != nil || head != want {
		return false
	}
	j.old = done.take().Clip(want.Size).AlignOut(oldAlign, want.Size)
	if len(j.old) == 0 || j.f.Truncate(end) != nil { // a torn record must not hide what is appended
		return false
	}
	_, err = j.f.Seek(end, io.SeekStart)
	return err == nil
}

// resumed says for the report how an earlier run is continued; "" if there was none.
func (j *restoreJournal) resumed() string {
	if len(j.old) == 0 {
		return ""
	}
	return fmt.Sprintf("%d bytes were written before; of these only what differs is written again", j.old.Total())
}

func decodeWritten(b []byte, add func(off, n int64)) error {
	if len(b)%writtenBytes != 0 {
		return errStop
	}
	for ; len(b) > 0; b = b[writtenBytes:] {
		add(int64(binary.LittleEndian.Uint64(b)), int64(binary.LittleEndian.Uint64(b[8:])))
	}
	return nil
}

// written is told what reached the target; it is recorded after the next sync.
func (j *restoreJournal) written(b *batch, chunks []uint32) {
	j.mu.Lock()
	for _, i := range chunks {
		_ = b.each(&b.chunks[i], func(off int64, n, _ uint32) error {
			j.fresh.add(off, int64(n))
			j.bytes += int64(n)
			return nil
		})
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

// zeroed is told of zeros that were made. They cost nothing to make again, so
// they wait for the next sync.
func (j *restoreJournal) zeroed(b *batch) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range b.zeros {
		j.fresh.add(r.Offset, r.Length)
	}
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
	done := j.fresh.take()
	j.bytes = 0
	j.mu.Unlock()
	if j.around != nil {
		j.around(false)
		defer j.around(true)
	}
	if err := j.target.Sync(ctx); err != nil {
		return err
	}
	j.buf = j.buf[:0]
	for _, r := range done {
		j.buf = binary.LittleEndian.AppendUint64(j.buf, uint64(r.Offset))
		j.buf = binary.LittleEndian.AppendUint64(j.buf, uint64(r.Length))
	}
	if err := j.append(recordWritten, j.buf); err != nil {
		return err
	}
	return j.sync()
}

// close unlocks the journal. After a finished restore nobody needs it, nor an
// empty one.
func (j *restoreJournal) close(finished bool) error {
	if st, err := j.f.Stat(); err == nil && st.Size() == 0 {
		finished = true
	}
	if !finished {
		return j.journal.close()
	}
	return errors.Join(os.Remove(j.path), j.journal.close())
}
