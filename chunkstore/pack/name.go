// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

const namePrefix = "packs/"

// Name returns the object name of a pack. It ends in the plain BLAKE3 of the
// stored bytes, so that anybody can verify a pack without a key.
func Name(session uint64, seq uint32, hash [32]byte) string {
	return fmt.Sprintf(namePrefix+"%010d/%06d-%x", session, seq, hash)
}

// ParseName reads what Name wrote and refuses any other spelling.
func ParseName(name string) (session uint64, seq uint32, hash [32]byte, err error) {
	rest, ok := strings.CutPrefix(name, namePrefix)
	dir, rest, ok1 := strings.Cut(rest, "/")
	num, digits, ok2 := strings.Cut(rest, "-")
	session, err1 := strconv.ParseUint(dir, 10, 64)
	n, err2 := strconv.ParseUint(num, 10, 32)
	if !ok || !ok1 || !ok2 || err1 != nil || err2 != nil || len(digits) != 2*len(hash) {
		return 0, 0, [32]byte{}, fmt.Errorf("parse pack name %q: want %s<session>/<number>-<64 hexadecimal digits>", name, namePrefix)
	}
	if _, err := hex.Decode(hash[:], []byte(digits)); err != nil {
		return 0, 0, [32]byte{}, fmt.Errorf("parse pack name %q: %w", name, err)
	}
	if canonical := Name(session, uint32(n), hash); canonical != name {
		return 0, 0, [32]byte{}, fmt.Errorf("parse pack name %q: it is spelled %q", name, canonical)
	}
	return session, uint32(n), hash, nil
}
