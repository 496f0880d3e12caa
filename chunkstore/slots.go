// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

const (
	maxSlotSize = 64 << 10
	maxSlots    = 32
	// maxSlotWork bounds what all slots together may cost to try, in KiB · passes:
	// anybody may have put dear ones behind the true ones.
	maxSlotWork = 8 << 20
)

// RemovedRecord says that a key slot is no longer to be used.
type RemovedRecord struct {
	Slot    int       `json:"slot"`
	Created time.Time `json:"created"`
}

// unlock tries the passphrase on the slots in ascending order. The mark of a
// removed one is a record, so only the keys in the slot can tell a true mark.
func (r *vault) unlock(ctx context.Context, store objstore.Store, passphrase []byte) error {
	last := seal.ErrWrongPassphrase
	var work uint64
	for n := range maxSlots {
		slot, err := objstore.ReadAll(ctx, store, slotName(n), maxSlotSize)
		if errors.Is(err, objstore.ErrNotExist) {
			more, err := exists(ctx, store, slotRemovedName(n))
			switch {
			case err != nil:
				return fmt.Errorf("read key slot %d: %w", n, err)
			case more:
				continue // its number stays taken
			case n == 0:
				return &seal.CorruptError{Object: slotName(0), Detail: "is missing: the repository was never finished or lost its keys; `tidemark init` finishes an empty one"}
			}
			return last
		}
		bad, damaged := asDamage(slotName(n), err)
		if err != nil && !damaged {
			return fmt.Errorf("read key slot %d: %w", n, err)
		}
		if damaged {
			last = bad
			continue
		}
		if work += seal.SlotWork(slot); work > maxSlotWork {
			return fmt.Errorf("key slots 0 to %d ask for more work than any should, so no more are tried: remove what does not belong there: %w", n, last)
		}
		keyring, err := seal.OpenSlot(slot, passphrase, r.configRaw)
		if err != nil {
			if !errors.Is(err, seal.ErrWrongPassphrase) {
				last = fmt.Errorf("key slot %d: %w", n, err)
			}
			continue
		}
		r.keyring = keyring
		if removed, err := r.slotRemoved(ctx, store, n); err != nil || !removed {
			return err
		}
		r.keyring = nil
	}
	return fmt.Errorf("none of %d key slots opens: %w", maxSlots, last)
}

// slotRemoved tells whether the slot that was just opened has a true mark.
func (r *vault) slotRemoved(ctx context.Context, store objstore.Store, n int) (bool, error) {
	name := slotRemovedName(n)
	data, err := objstore.ReadAll(ctx, store, name, maxSlotSize)
	if errors.Is(err, objstore.ErrNotExist) {
		return false, nil
	}
	var mark RemovedRecord
	if err == nil {
		err = r.openRecord(name, data, &mark)
	}
	if err == nil && mark.Slot != n {
		err = &seal.CorruptError{Object: name, Detail: fmt.Sprintf("is of slot %d", mark.Slot)}
	}
	if bad, ok := asDamage(name, err); ok {
		r.damage.note(name, bad)
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the mark of key slot %d: %w", n, err)
	}
	return true, nil
}
