// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrNoPoint is returned for a specification that no retained point fits.
var ErrNoPoint = errors.New("no such restore point")

// timeLayouts are what may stand after VOLUME@, most precise first. Those
// without a zone are local time.
var timeLayouts = []string{
	time.RFC3339Nano, "2006-01-02T15:04Z07:00",
	"2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02",
}

// Resolve finds the point that a user means: a unique prefix of its id,
// VOLUME@latest, VOLUME@-N (N before the latest) or VOLUME@TIME (the newest
// made at or before that time; a time without seconds means its whole minute,
// a date its whole day).
func (r *Repository) Resolve(ctx context.Context, spec string) (*Point, error) {
	metas, err := r.Retained(ctx, "")
	if err != nil {
		return nil, err
	}
	m, err := resolve(metas, spec)
	if bad := r.damagedRecords(); errors.Is(err, ErrNoPoint) && len(bad) > 0 {
		return nil, fmt.Errorf("%w; it may be among those that can't be found: %w", err, bad[0])
	}
	if err != nil {
		return nil, err
	}
	return r.ReadPoint(ctx, m)
}

func resolve(metas []PointMeta, spec string) (PointMeta, error) {
	at := strings.LastIndexByte(spec, '@')
	if at < 0 {
		return byPrefix(metas, spec)
	}
	volume, when := spec[:at], spec[at+1:]
	var own []PointMeta
	for _, m := range metas {
		if m.Volume == volume {
			own = append(own, m)
		}
	}
	if len(own) == 0 {
		return PointMeta{}, fmt.Errorf("%w: volume %q has none", ErrNoPoint, volume)
	}
	if when == "latest" {
		return own[len(own)-1], nil
	}
	if back, ok := strings.CutPrefix(when, "-"); ok {
		n, err := strconv.ParseUint(back, 10, 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return PointMeta{}, fmt.Errorf("%w: %q is no number of points before the latest", ErrNoPoint, when)
		}
		if err != nil || n >= uint64(len(own)) {
			return PointMeta{}, fmt.Errorf("%w: volume %q has %d, so @-%d reaches the oldest", ErrNoPoint, volume, len(own), len(own)-1)
		}
		return own[len(own)-1-int(n)], nil
	}
	end, err := parseWhen(when)
	if err != nil {
		return PointMeta{}, err
	}
	for _, m := range slices.Backward(own) {
		if m.Created.Before(end) {
			return m, nil
		}
	}
	return PointMeta{}, fmt.Errorf("%w: the oldest of volume %q was made at %s", ErrNoPoint, volume, own[0].Created.Local().Format(time.RFC3339))
}

func byPrefix(metas []PointMeta, prefix string) (PointMeta, error) {
	var found []PointMeta
	for _, m := range metas {
		if prefix != "" && strings.HasPrefix(m.ID, strings.ToLower(prefix)) {
			found = append(found, m)
		}
	}
	switch len(found) {
	case 0:
		return PointMeta{}, fmt.Errorf("%w: %q is no beginning of a point's id, nor VOLUME@latest, VOLUME@-2 or VOLUME@2026-11-22T10:00", ErrNoPoint, prefix)
	case 1:
		return found[0], nil
	}
	return PointMeta{}, fmt.Errorf("%w: %q is the beginning of %d ids; give more digits", ErrNoPoint, prefix, len(found))
}

// parseWhen gives the first instant after the time that was meant.
func parseWhen(s string) (time.Time, error) {
	for _, layout := range timeLayouts {
		t, err := time.ParseInLocation(layout, s, time.Local)
		if err != nil {
			continue
		}
		switch {
		case strings.HasPrefix(layout, "2006-01-02T15:04:05"), layout == time.RFC3339Nano:
			if t.Nanosecond() == 0 {
				return t.Add(time.Second), nil
			}
			return t.Add(time.Nanosecond), nil
		case strings.Contains(layout, "15:04"):
			return t.Add(time.Minute), nil
		}
		return t.AddDate(0, 0, 1), nil
	}
	return time.Time{}, fmt.Errorf("%q is no time like 2026-11-22T10:00, nor latest, nor -2", s)
}
