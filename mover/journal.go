// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/blockio"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/index"
)

// ErrBusy is returned when another process of this machine backs up the same
// volume into the same repository.
var ErrBusy = errors.New("another backup of this volume is running on this machine")

// A journal lets a killed backup go on. It lies in the local cache and is a
// sequence of records: u32 length of the payload, u32 CRC-32C of kind and
// payload, u8 kind, payload. A torn end is ignored. What it says counts only as
// far as packs are durable, so losing its tail loses work, never truth.
type journal struct {
	mu   sync.Mutex
	f    *os.File
	w    *bufio.Writer
	path string
	buf  []byte
	next *journal // takes records while this one is replayed into it
}

const (
	recordHeader  = 'H' // JSON journalHeader; the first record
	recordPack    = 'P' // JSON index.PackID, newline, entries of 48 bytes
	recordExtents = 'E' // u64 mark, extents of 61 bytes
	recordLost    = 'L' // unreadable ranges: u64 offset, u64 length each

	maxJournalRecord = 64 << 20
	extentBytes      = 61
	entryBytes       = 48
	lostBytes        = 16
)

// journalHeader says what the interrupted backup was doing.
type journalHeader struct {
	Version    int              `json:"version"`
	Repository string           `json:"repository"`
	Session    uint64           `json:"session"`
	Nonce      string           `json:"nonce"`
	Volume     string           `json:"volume"`
	Domain     string           `json:"domain"`
	Base       string           `json:"base"`
	Mode       mode             `json:"mode"`
	Work       string           `json:"work"` // digest of the ranges to read and how to cut them
	Size       int64            `json:"size"`
	Snapshot   string           `json:"snapshot"`
	Identity   blockio.Identity `json:"identity"`
	// Lie is what the claim on this base was convicted of: whoever goes on must
	// not sample anew and perhaps believe it (M2).
	Lie *lyingClaimError `json:"lie,omitempty"`
}

// sameSource tells whether the source is proven to hold the very bytes that
// the interrupted backup read (M1).
func (h *journalHeader) sameSource(o *journalHeader) bool {
	if h.Size != o.Size || h.Snapshot != o.Snapshot {
		return false
	}
	if h.Snapshot != "" && (h.Identity.IsZero() || o.Identity.IsZero()) {
		return true // a device says nothing about itself; its snapshot's name must do
	}
	// A name given twice (cp, fail, rm, cp again under the day's name) does not
	// make another file the same.
	return !h.Identity.IsZero() && h.Identity == o.Identity
}

// sameWork tells whether it would read and cut the same ranges against the same base.
func (h *journalHeader) sameWork(o *journalHeader) bool {
	return h.Mode == o.Mode && h.Base == o.Base && h.Work == o.Work
}

// openJournal locks the volume's journal for this process.
func openJournal(dir, volumeKey string) (*journal, error) {
	dir = filepath.Join(dir, "journals")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the journal folder: %w", err)
	}
	path := filepath.Join(dir, volumeKey)
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open the journal: %w", err)
		}
		ours, err := lockJournal(f, path)
		if err == nil && ours {
			err = removeSuccessors(dir, volumeKey)
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if ours {
			return &journal{f: f, w: bufio.NewWriterSize(f, 256<<10), path: path}, nil
		}
		if err := f.Close(); err != nil {
			return nil, fmt.Errorf("open the journal: %w", err)
		}
	}
}

// lockJournal tells whether the locked file is still the one at path: the
// holder of the lock may have put a successor there meanwhile.
func lockJournal(f *os.File, path string) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, ErrBusy
	}
	if err != nil {
		return false, fmt.Errorf("lock the journal: %w", err)
	}
	locked, err := f.Stat()
	if err != nil {
		return false, fmt.Errorf("lock the journal: %w", err)
	}
	there, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock the journal: %w", err)
	}
	return os.SameFile(locked, there), nil
}

const successorInfix = ".new-"

// removeSuccessors removes what a killed run left before it installed it.
func removeSuccessors(dir, volumeKey string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("clean the journal folder: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), volumeKey+successorInfix) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("clean the journal folder: %w", err)
			}
		}
	}
	return nil
}

// begin starts the journal anew. The header is durable when it returns, so that
// whatever becomes of this run, the next one finds its session.
func (j *journal) begin(h *journalHeader) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.w.Reset(j.f)
	if err := j.f.Truncate(0); err != nil {
		return fmt.Errorf("empty the journal: %w", err)
	}
	if _, err := j.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := j.append(recordHeader, data); err != nil {
		return err
	}
	return j.sync()
}

// append writes a record. j.mu is held.
func (j *journal) append(kind byte, payload []byte) error {
	var head [9]byte
	head[8] = kind
	sum := crc32.Update(crc32.Checksum(head[8:], castagnoli), castagnoli, payload)
	binary.LittleEndian.PutUint32(head[0:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(head[4:], sum)
	_, err := j.w.Write(head[:])
	if err == nil {
		_, err = j.w.Write(payload)
	}
	if err != nil {
		return fmt.Errorf("write the journal %s: %w", j.path, err)
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (j *journal) sync() error {
	err := j.w.Flush()
	if err == nil {
		err = unix.Fdatasync(int(j.f.Fd()))
	}
	if err != nil {
		return fmt.Errorf("write the journal %s: %w", j.path, err)
	}
	return nil
}

// pack records a durable pack.
func (j *journal) pack(p chunkstore.PackReport) error {
	head, err := json.Marshal(p.Pack)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.next != nil {
		return j.next.pack(p)
	}
	b := append(j.buf[:0], head...)
	b = append(b, '\n')
	for _, l := range p.Entries {
		b = append(b, l.ID[:]...)
		for _, v := range []uint32{l.Offset, l.Stored, l.Frame, l.Plain} {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
	}
	j.buf = b
	if err := j.append(recordPack, b); err != nil {
		return err
	}
	return j.sync()
}

// extents records extents in volume order, complete up to mark.
func (j *journal) extents(es []imagemap.Extent, mark int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	b := binary.LittleEndian.AppendUint64(j.buf[:0], uint64(mark))
	for i := range es {
		b = appendExtent(b, &es[i])
	}
	j.buf = b
	return j.append(recordExtents, b)
}

// lost records ranges that could not be read. It comes before the extents whose
// mark lies behind them, so a resumed backup knows of all it does not read again.
func (j *journal) lost(rs []blockdiff.Range) error {
	if len(rs) == 0 {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	b := j.buf[:0]
	for _, r := range rs {
		b = binary.LittleEndian.AppendUint64(b, uint64(r.Offset))
		b = binary.LittleEndian.AppendUint64(b, uint64(r.Length))
	}
	j.buf = b
	return j.append(recordLost, b)
}

func appendExtent(b []byte, e *imagemap.Extent) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Off))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Len))
	b = append(b, e.Chunk[:]...)
	b = binary.LittleEndian.AppendUint32(b, e.ChunkOff)
	hole := byte(0)
	if e.Hole {
		hole = 1
	}
	b = append(b, hole)
	return binary.LittleEndian.AppendUint64(b, e.Birth)
}

func decodeExtent(b []byte) (e imagemap.Extent) {
	e.Off = int64(binary.LittleEndian.Uint64(b[0:]))
	e.Len = int64(binary.LittleEndian.Uint64(b[8:]))
	copy(e.Chunk[:], b[16:48])
	e.ChunkOff = binary.LittleEndian.Uint32(b[48:])
	e.Hole = b[52] == 1
	e.Birth = binary.LittleEndian.Uint64(b[53:])
	return e
}

func decodePack(b []byte) (p chunkstore.PackReport, err error) {
	head, rest, ok := bytes.Cut(b, []byte{'\n'})
	if !ok || len(rest)%entryBytes != 0 {
		return p, errors.New("malformed pack record")
	}
	if err := json.Unmarshal(head, &p.Pack); err != nil {
		return p, err
	}
	for ; len(rest) > 0; rest = rest[entryBytes:] {
		l := index.Location{Pack: p.Pack}
		copy(l.ID[:], rest)
		v := func(i int) uint32 { return binary.LittleEndian.Uint32(rest[32+4*i:]) }
		l.Offset, l.Stored, l.Frame, l.Plain = v(0), v(1), v(2), v(3)
		p.Entries = append(p.Entries, l)
	}
	return p, nil
}

// replay calls fn for each whole record from the beginning.
func (j *journal) replay(fn func(kind byte, payload []byte) error) error {
	r := bufio.NewReaderSize(io.NewSectionReader(j.f, 0, 1<<62), 64<<10)
	var head [9]byte
	var payload []byte
	for {
		if n, _ := io.ReadFull(r, head[:]); n < len(head) {
			return nil // the end, or torn
		}
		n := binary.LittleEndian.Uint32(head[0:])
		if n > maxJournalRecord {
			return nil
		}
		if cap(payload) < int(n) {
			payload = make([]byte, n)
		}
		payload = payload[:n]
		if got, _ := io.ReadFull(r, payload); got < len(payload) {
			return nil
		}
		sum := crc32.Update(crc32.Checksum(head[8:], castagnoli), castagnoli, payload)
		if sum != binary.LittleEndian.Uint32(head[4:]) {
			return nil
		}
		if err := fn(head[8], payload); err != nil {
			return err
		}
	}
}

// successor is a new journal file that takes this one's place once install is
// called; both are locked.
func (j *journal) successor() (*journal, error) {
	f, err := os.CreateTemp(filepath.Dir(j.path), filepath.Base(j.path)+successorInfix+"*")
	if err != nil {
		return nil, fmt.Errorf("begin the journal anew: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock the new journal: %w", err), f.Close(), os.Remove(f.Name()))
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.next = &journal{f: f, w: bufio.NewWriterSize(f, 256<<10), path: j.path}
	return j.next, nil
}

// install puts the successor in the place of j.
func (j *journal) install() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	next := j.next
	err := next.sync()
	if err == nil {
		err = os.Rename(next.f.Name(), j.path)
	}
	if err != nil {
		return fmt.Errorf("install the new journal: %w", err)
	}
	old := j.f
	j.f, j.w, j.next = next.f, next.w, nil
	return old.Close()
}

// finish empties the journal: the backup it was for is committed.
func (j *journal) finish() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.w.Reset(j.f)
	if err := j.f.Truncate(0); err != nil {
		return fmt.Errorf("empty the journal: %w", err)
	}
	return nil
}

// close unlocks the journal and keeps it.
func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	err := j.w.Flush()
	if j.next != nil { // never installed
		err = errors.Join(err, j.next.f.Close(), os.Remove(j.next.f.Name()))
	}
	return errors.Join(err, j.f.Close())
}
