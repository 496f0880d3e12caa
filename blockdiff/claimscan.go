// SPDX-License-Identifier: Apache-2.0

package blockdiff

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// A change list may be gigabytes long and come from anywhere. This scanner knows just the JSON that lists are made of,
// so a token has a bounded size and a million entries take half a second.

type tokenKind uint8

const (
	kindEnd    tokenKind = iota // the input's
	kindMark                    // one of [ ] { } , :
	kindString                  // without its quotes
	kindWord                    // a number, true, false
)

type token struct {
	kind tokenKind
	text string
}

func (t token) is(mark byte) bool { return t.kind == kindMark && t.text[0] == mark }

func (t token) String() string {
	switch t.kind {
	case kindEnd:
		return "the list's end"
	case kindString:
		return strconv.Quote(t.text)
	default:
		return t.text
	}
}

// longestToken leaves room for every number and name that a valid list has, and bounds what an error quotes.
const longestToken = 32

type claimScanner struct {
	r   *bufio.Reader
	pos int64 // bytes taken
	buf [longestToken]byte
}

// next returns the next token. At the end of the input it returns a token of kindEnd; other errors of the reader are
// passed on.
func (s *claimScanner) next() (token, error) {
	for {
		c, err := s.r.ReadByte()
		if errors.Is(err, io.EOF) {
			return token{}, nil
		}
		if err != nil {
			return token{}, fmt.Errorf("read change list at byte %d: %w", s.pos, err)
		}
		s.pos++
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			continue
		case c == '"':
			return s.str()
		case isMark(c):
			return token{kindMark, markText(c)}, nil
		case isWord(c):
			return s.word(c)
		}
		return token{}, s.refuse("the character %q has no place in a list", rune(c))
	}
}

func (s *claimScanner) refuse(format string, args ...any) error {
	return &ClaimError{Position: s.pos, Detail: fmt.Sprintf(format, args...)}
}

func isMark(c byte) bool {
	return c == '{' || c == '}' || c == '[' || c == ']' || c == ',' || c == ':'
}

const marks = "{}[],:"

// markText avoids a string's allocation for each mark.
func markText(c byte) string {
	for i := range len(marks) {
		if marks[i] == c {
			return marks[i : i+1]
		}
	}
	return ""
}

func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '+' || c == '.'
}

// text is string(b) without an allocation for what every entry repeats.
func text(b []byte) string {
	switch string(b) {
	case "offset":
		return "offset"
	case "length":
		return "length"
	case "exists":
		return "exists"
	case "true":
		return "true"
	case "false":
		return "false"
	}
	return string(b)
}

// str reads a string after its opening quote. Nothing in a list needs an escape, so none is understood.
func (s *claimScanner) str() (token, error) {
	n := 0
	for {
		c, err := s.r.ReadByte()
		if errors.Is(err, io.EOF) {
			return token{}, s.refuse("the list ends inside a string")
		}
		if err != nil {
			return token{}, fmt.Errorf("read change list at byte %d: %w", s.pos, err)
		}
		s.pos++
		switch {
		case c == '"':
			return token{kindString, text(s.buf[:n])}, nil
		case c == '\\' || c < ' ' || c > '~':
			return token{}, s.refuse("the character %q has no place in a string of a list", rune(c))
		case n == len(s.buf):
			return token{}, s.refuse("a string begins with %q and is longer than %d characters", s.buf[:n], n)
		}
		s.buf[n] = c
		n++
	}
}

func (s *claimScanner) word(c byte) (token, error) {
	n := 0
	for {
		if n == len(s.buf) {
			return token{}, s.refuse("a word begins with %s and is longer than %d characters", s.buf[:n], n)
		}
		s.buf[n] = c
		n++
		next, err := s.r.Peek(1)
		if errors.Is(err, io.EOF) || err == nil && !isWord(next[0]) {
			return token{kindWord, text(s.buf[:n])}, nil
		}
		if err != nil {
			return token{}, fmt.Errorf("read change list at byte %d: %w", s.pos, err)
		}
		c = next[0]
		if _, err := s.r.Discard(1); err != nil {
			return token{}, fmt.Errorf("read change list at byte %d: %w", s.pos, err)
		}
		s.pos++
	}
}

const (
	fieldOffset = iota
	fieldLength
	fieldExists
	fieldCount
)

// claimFields is one entry under way.
type claimFields struct {
	has            [fieldCount]bool
	offset, length int64
}

// set takes one field, or says in one sentence what is wrong with it.
func (f *claimFields) set(name string, value token) string {
	field := -1
	for i, known := range [fieldCount]string{"offset", "length", "exists"} {
		if name == known {
			field = i
		}
	}
	if field < 0 {
		return fmt.Sprintf("the field %q is none of offset, length and exists", name)
	}
	if f.has[field] {
		return fmt.Sprintf("the field %q is there twice", name)
	}
	f.has[field] = true
	switch field {
	case fieldOffset:
		return number(name, value, &f.offset)
	case fieldLength:
		return number(name, value, &f.length)
	}
	if value.kind == kindMark || value.text != "true" && value.text != "false" {
		return fmt.Sprintf("the field %q is %s, not true or false", name, value)
	}
	return ""
}

// number takes the decimal digits of a whole number, bare or quoted; rbd and JSON writers that fear for the precision
// of large numbers quote them.
func number(name string, value token, into *int64) string {
	if value.kind == kindMark || value.text == "" {
		return fmt.Sprintf("the field %q is %s, not a number", name, value)
	}
	digits := value.text
	if digits[0] == '-' {
		digits = digits[1:]
	}
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return fmt.Sprintf("the field %q is %s, not a whole number", name, value)
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	switch {
	case len(digits) < len(value.text) && digits != "":
		return fmt.Sprintf("the field %q is %s, which is negative", name, value)
	case errors.Is(err, strconv.ErrRange):
		return fmt.Sprintf("the field %q is %s, more than any volume has", name, value)
	case err != nil || len(digits) > 1 && digits[0] == '0':
		return fmt.Sprintf("the field %q is %s, not a whole number", name, value)
	}
	*into = n
	return ""
}
