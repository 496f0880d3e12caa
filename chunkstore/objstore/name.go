// SPDX-License-Identifier: Apache-2.0

package objstore

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	maxName = 1000 // S3 allows 1024 with the prefix; a file system 4096 in all
	maxPart = 255  // of every Linux file system
)

// TempDir is the first part of names that stores keep for themselves.
const TempDir = "tmp"

// CheckName reports whether a store may hold an object of this name. All
// stores refuse the same names, so that an object can move between them.
func CheckName(op, name string) error {
	if err := checkName(name); err != nil {
		return &Error{Op: op, Name: fmt.Sprintf("%.80q", name), Err: err}
	}
	return nil
}

func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("object name is empty")
	case len(name) > maxName:
		return fmt.Errorf("object name has %d bytes, more than %d", len(name), maxName)
	case !utf8.ValidString(name):
		return errors.New("object name is not valid UTF-8")
	}
	for i, part := range strings.Split(name, "/") {
		switch {
		case part == "":
			return errors.New("object name has an empty part")
		case part == "." || part == "..":
			return fmt.Errorf("object name has the part %q", part)
		case len(part) > maxPart:
			return fmt.Errorf("object name has a part of %d bytes, more than %d", len(part), maxPart)
		case i == 0 && part == TempDir:
			return fmt.Errorf("object names beginning with %q are reserved", TempDir)
		}
	}
	for i := range len(name) {
		if c := name[i]; c < 0x20 || c == 0x7f || c == '\\' {
			return fmt.Errorf("object name has the byte %#02x at %d", c, i)
		}
	}
	return nil
}
