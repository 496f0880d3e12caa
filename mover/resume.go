// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/zeebo/blake3"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/blockio"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
)

// readHeader gives nil when the journal holds nothing of use.
func (j *journal) readHeader(repository string) (*journalHeader, error) {
	var h *journalHeader
	err := j.replay(func(kind byte, payload []byte) error {
		var v journalHeader
		if kind == recordHeader && json.Unmarshal(payload, &v) == nil && v.Version == journalVersion && v.Repository == repository {
			h = &v
		}
		return errStop
	})
	if errors.Is(err, errStop) {
		err = nil
	}
	return h, err
}

// packs calls yield for each pack that the journal saw become durable.
func (j *journal) packs(yield func(chunkstore.PackReport) error) error {
	return j.replay(func(kind byte, payload []byte) error {
		if kind != recordPack {
			return nil
		}
		p, err := decodePack(payload)
		if err != nil {
			return fmt.Errorf("journal %s: %w", j.path, err)
		}
		return yield(p)
	})
}

const journalVersion = 1

var errStop = errors.New("stop")

// durablePrefix finds how far the interrupted backup got: the extents, in
// volume order, whose chunks are all durable. It calls fn for each batch and
// returns the offset from which the volume must be read.
func (j *journal) durablePrefix(durable func(chunk.ID) (bool, error), fn func([]imagemap.Extent, int64) error) (int64, error) {
	mark := int64(0)
	err := j.replay(func(kind byte, payload []byte) error {
		if kind != recordExtents {
			return nil
		}
		if len(payload) < 8 || (len(payload)-8)%extentBytes != 0 {
			return errStop
		}
		var es []imagemap.Extent
		for b := payload[8:]; len(b) > 0; b = b[extentBytes:] {
			e := decodeExtent(b)
			if !e.Hole {
				ok, err := durable(e.Chunk)
				if err != nil {
					return err
				}
				if !ok {
					return errStop
				}
			}
			es = append(es, e)
		}
		mark = int64(binary.LittleEndian.Uint64(payload))
		return fn(es, mark)
	})
	if errors.Is(err, errStop) {
		err = nil
	}
	return mark, err
}

// unreadable gives what the interrupted backup could not read below mark.
func (j *journal) unreadable(mark int64) (blockdiff.Ranges, error) {
	var out blockdiff.Ranges
	err := j.replay(func(kind byte, payload []byte) error {
		if kind != recordLost || len(payload)%lostBytes != 0 {
			return nil
		}
		for b := payload; len(b) > 0; b = b[lostBytes:] {
			out = append(out, blockdiff.Range{Offset: int64(binary.LittleEndian.Uint64(b)), Length: int64(binary.LittleEndian.Uint64(b[8:]))})
		}
		return nil
	})
	return blockdiff.Normalize(out).Clip(mark), err
}

// resumption is what a backup does about an earlier run that did not finish.
type resumption struct{ *backup }

// resumeSamples is how many chunks of an interrupted backup are hashed again
// from the source before its work is believed.
const resumeSamples = 64

// sampler keeps a uniform sample of whole chunks with the places in the volume
// that they came from.
type sampler struct {
	r     *rand.Rand
	seen  int
	picks []pick
	open  pick
}

type pick struct {
	id     chunk.ID
	pieces []chunk.Piece
	whole  bool // the pieces so far are the chunk from its beginning
	length int64
}

func (s *sampler) add(e imagemap.Extent) {
	if e.Hole {
		return
	}
	if e.Chunk != s.open.id || e.ChunkOff == 0 { // equal chunks may follow each other
		s.flush()
		s.open = pick{id: e.Chunk, whole: e.ChunkOff == 0}
	}
	s.open.whole = s.open.whole && int64(e.ChunkOff) == s.open.length
	s.open.length += e.Len
	s.open.pieces = append(s.open.pieces, chunk.Piece{Offset: e.Off, Length: e.Len})
}

func (s *sampler) flush() {
	p := s.open
	s.open = pick{}
	if !p.whole || p.length == 0 {
		return
	}
	s.seen++
	if len(s.picks) < resumeSamples {
		s.picks = append(s.picks, p)
	} else if i := s.r.IntN(s.seen); i < resumeSamples {
		s.picks[i] = p
	}
}

// rehash reads the sampled chunks from the source and compares names. A chunk
// whose pieces do not add up to its length was cut differently and says nothing.
func (b resumption) rehash(ctx context.Context, s *sampler, length func(chunk.ID) (int64, error)) error {
	s.flush()
	buf, err := b.chunkBufs.Get(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = buf.Release() }()
	namer := chunk.NewNamer(b.repo.Keyring().Current().NameKey(b.opt.Domain))
	for _, p := range s.picks {
		n, err := length(p.id)
		if err != nil {
			return err
		}
		if n != p.length {
			continue
		}
		plain := buf.Bytes()[:0]
		for _, o := range p.pieces {
			err := b.source.ReadAt(ctx, plain[len(plain):len(plain)+int(o.Length)], o.Offset)
			if _, bad := errors.AsType[*blockio.ReadError](err); bad {
				return errNotSame // it could be read before
			}
			if err != nil {
				return fmt.Errorf("read source: %w", err)
			}
			b.auditBytes.Add(o.Length)
			plain = plain[:len(plain)+int(o.Length)]
		}
		if namer.Name(plain) != p.id {
			return errNotSame
		}
	}
	return nil
}

var errNotSame = errors.New("the source is not what the interrupted backup read")

// resume begins the journal of this run. Of an interrupted one it keeps the
// packs and, where the source is proven the same and a sample of what was done
// still hashes to the same names, its extents, which go to the new run.
func (b resumption) resume(ctx context.Context, old *journalHeader, ranges blockdiff.Ranges, out *imagemap.Writer) error {
	head := b.journalHeader(ranges)
	if old == nil || old.Session != head.Session {
		return b.journal.begin(&head)
	}
	same := head.sameSource(old) && head.sameWork(old)
	if same {
		err := b.sampleAgain(ctx)
		if errors.Is(err, errNotSame) {
			b.warn(err.Error() + ": everything is read again")
			same, err = false, nil
		}
		if err != nil {
			return err
		}
	}
	next, err := b.journal.successor()
	if err != nil {
		return err
	}
	if err := next.begin(&head); err != nil {
		return err
	}
	if err := b.journal.packs(next.pack); err != nil {
		return err
	}
	if same {
		if err := b.goOn(ctx, next, ranges, out); err != nil {
			return fmt.Errorf("replay the journal: %w", err)
		}
		b.report.Resumed = fmt.Sprintf("continued at offset %d of %d", b.start, b.size)
	}
	return b.journal.install()
}

// goOn takes over what the interrupted backup did up to the offset at which
// this one goes on.
func (b resumption) goOn(ctx context.Context, next *journal, ranges blockdiff.Ranges, out *imagemap.Writer) (err error) {
	if b.start, err = b.replayExtents(ctx, next, out); err != nil {
		return err
	}
	if b.mode == modeFull { // all that was read counts, zeros too
		b.changed.Add(ranges.Clip(b.start).Total())
	}
	lost, err := b.journal.unreadable(b.start)
	if err != nil {
		return err
	}
	b.lost = lost
	return next.lost(lost)
}

func (b resumption) sampleAgain(ctx context.Context) error {
	s := sampler{r: rand.New(rand.NewPCG(b.opt.Seed, 1))}
	_, err := b.journal.durablePrefix(b.session.Durable, func(es []imagemap.Extent, _ int64) error {
		for _, e := range es {
			s.add(e)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return b.rehash(ctx, &s, b.session.PlainLength)
}

func (b resumption) replayExtents(ctx context.Context, next *journal, out *imagemap.Writer) (int64, error) {
	return b.journal.durablePrefix(b.session.Durable, func(es []imagemap.Extent, mark int64) error {
		for _, e := range es {
			if err := out.Add(ctx, e); err != nil {
				return err
			}
			switch {
			case e.Birth != b.session.Number():
				b.moved.Add(e.Len)
			case b.mode != modeFull:
				b.changed.Add(e.Len)
			}
		}
		return next.extents(es, mark)
	})
}

func (b resumption) journalHeader(ranges blockdiff.Ranges) journalHeader {
	return journalHeader{
		Version: journalVersion, Repository: b.repo.Config().ID, Session: b.session.Number(), Nonce: b.session.Nonce(),
		Volume: b.opt.Volume, Domain: b.opt.Domain, Base: baseID(b.base), Mode: b.mode, Work: b.workDigest(ranges),
		Size: b.size, Snapshot: b.opt.Snapshot, Identity: b.source.Identity(),
		Lie: b.lie,
	}
}

// workDigest binds what is read and how it is cut.
func (b resumption) workDigest(ranges blockdiff.Ranges) string {
	h := blake3.New()
	_, _ = fmt.Fprintf(h, "%s %d %d %t\n", b.opt.Chunker, b.opt.DigestSize, b.mode, b.opt.SkipUnreadable)
	var p [16]byte
	for _, r := range ranges {
		binary.LittleEndian.PutUint64(p[:8], uint64(r.Offset))
		binary.LittleEndian.PutUint64(p[8:], uint64(r.Length))
		_, _ = h.Write(p[:])
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
