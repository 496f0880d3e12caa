// SPDX-License-Identifier: Apache-2.0

package blockdiff

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// ClaimError is why a change list was refused, in one sentence.
type ClaimError struct {
	Entry    int   // counted from 1; 0 where the list itself is at fault
	Position int64 // byte of the input at which that was clear
	Detail   string
}

func (e *ClaimError) Error() string {
	if e.Entry == 0 {
		return fmt.Sprintf("change list, byte %d: %s", e.Position, e.Detail)
	}
	return fmt.Sprintf("change list, entry %d (byte %d): %s", e.Entry, e.Position, e.Detail)
}

// ParseClaim reads a change list of a volume of size bytes; the package comment has the format. A list that breaks
// a rule is refused with a [*ClaimError] (I3); other errors are the reader's own. Memory is bounded whatever is read (I4).
func ParseClaim(r io.Reader, size int64) (Ranges, error) {
	p := claimParser{scan: claimScanner{r: bufio.NewReaderSize(r, 64<<10)}, size: size}
	if err := p.list(); err != nil {
		return nil, err
	}
	return p.ranges, nil
}

// WriteClaim writes the ranges as ParseClaim reads them, one a line.
func WriteClaim(w io.Writer, rs Ranges) error {
	b := bufio.NewWriter(w)
	b.WriteByte('[')
	for i, r := range rs {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(b, "\n{\"offset\":%d,\"length\":%d}", r.Offset, r.Length)
	}
	b.WriteString("\n]\n")
	if err := b.Flush(); err != nil { // the writer keeps its first error
		return fmt.Errorf("write change list: %w", err)
	}
	return nil
}

type claimParser struct {
	scan   claimScanner
	size   int64
	entry  int
	end    int64 // where the last entry's range ended; ranges may already be coalesced beyond it
	ranges Ranges
}

func (p *claimParser) refuse(format string, args ...any) error {
	return &ClaimError{Entry: p.entry, Position: p.scan.pos, Detail: fmt.Sprintf(format, args...)}
}

// token is the scanner's next token, its failures put down to the entry under way.
func (p *claimParser) token() (token, error) {
	t, err := p.scan.next()
	if syntax, ok := errors.AsType[*ClaimError](err); ok {
		syntax.Entry = p.entry
	}
	return t, err
}

func (p *claimParser) list() error {
	t, err := p.token()
	if err != nil {
		return err
	}
	switch {
	case t.kind == kindEnd:
		return p.refuse("it is empty; a list of no changes is []")
	case !t.is('['):
		return p.refuse("it begins with %s, not with [", t)
	}
	for first := true; ; first = false {
		t, err := p.token()
		if err != nil {
			return err
		}
		switch {
		case t.is(']') && first:
			return p.nothingFollows()
		case t.is('{'):
		case t.kind == kindEnd:
			return p.refuse("it ends before its closing ]")
		default:
			return p.refuse("%s stands where an entry should begin with {", t)
		}
		p.entry++
		if err := p.object(); err != nil {
			return err
		}
		if done, err := p.separator(']'); done || err != nil {
			if err != nil {
				return err
			}
			return p.nothingFollows()
		}
	}
}

func (p *claimParser) nothingFollows() error {
	p.entry = 0
	t, err := p.token()
	if err == nil && t.kind != kindEnd {
		err = p.refuse("%s follows the closing ]", t)
	}
	return err
}

// separator reads a comma or the closing character, and reports whether it was the latter.
func (p *claimParser) separator(closing byte) (bool, error) {
	t, err := p.token()
	switch {
	case err != nil:
		return false, err
	case t.is(','), t.is(closing):
		return t.is(closing), nil
	case t.kind == kindEnd:
		return false, p.refuse("the list ends in the middle")
	}
	return false, p.refuse("%s stands where , or %c should", t, closing)
}

// object reads one entry after its opening brace.
func (p *claimParser) object() error {
	var fields claimFields
	for {
		name, err := p.token()
		if err != nil {
			return err
		}
		if name.kind != kindString {
			return p.unexpected(name, "a field's name")
		}
		colon, err := p.token()
		if err != nil {
			return err
		}
		if !colon.is(':') {
			return p.unexpected(colon, ":")
		}
		value, err := p.token()
		if err != nil {
			return err
		}
		if value.kind == kindEnd {
			return p.unexpected(value, "a value")
		}
		if fault := fields.set(name.text, value); fault != "" {
			return p.refuse("%s", fault)
		}
		done, err := p.separator('}')
		if err != nil {
			return err
		}
		if done {
			return p.add(&fields)
		}
	}
}

func (p *claimParser) unexpected(t token, wanted string) error {
	if t.kind == kindEnd {
		return p.refuse("the list ends in the middle")
	}
	return p.refuse("%s stands where %s should", t, wanted)
}

// add checks one entry's range against the rules and keeps it.
func (p *claimParser) add(f *claimFields) error {
	off, length := f.offset, f.length
	switch {
	case !f.has[fieldOffset]:
		return p.refuse("it has no offset")
	case !f.has[fieldLength]:
		return p.refuse("it has no length")
	case length == 0:
		return p.refuse("the range at %d has no bytes", off)
	case off >= p.size || length > p.size-off:
		return p.refuse("%d bytes from %d reach beyond the volume's end at %d", length, off, p.size)
	case off < p.end && off+length <= p.end:
		return p.refuse("the range at %d lies before the end of the one before at %d: the list must ascend", off, p.end)
	case off < p.end:
		return p.refuse("the range at %d overlaps the one before, which ends at %d", off, p.end)
	}
	p.end = off + length
	p.ranges = p.ranges.appendRange(Range{off, length}).bound()
	return nil
}
