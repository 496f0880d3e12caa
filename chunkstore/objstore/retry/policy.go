// SPDX-License-Identifier: Apache-2.0

package retry

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
)

// Policy says how long and how often to try again. The zero value of a field
// stands for its default.
type Policy struct {
	Initial      time.Duration // first pause; default 200 ms
	MaxPause     time.Duration // longest pause; default 20 s
	MaxElapsed   time.Duration // of one call, with all its attempts; default 10 min
	FirstContact time.Duration // the same for a store that never answered yet; default 15 s
	// Notify hears of every attempt that failed and will be repeated after wait.
	Notify func(err error, wait time.Duration)
}

func (p Policy) withDefaults() Policy {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&p.Initial, 200 * time.Millisecond},
		{&p.MaxPause, 20 * time.Second},
		{&p.MaxElapsed, 10 * time.Minute},
		{&p.FirstContact, 15 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return p
}

// Do calls op until it succeeds or fails for good (T1). It is for what is no
// call of a Store, such as its opening.
func (p Policy) Do(ctx context.Context, op func() error) error {
	return (&loop{policy: p.withDefaults()}).do(ctx, op)
}

// loop repeats calls to one store.
type loop struct {
	policy  Policy
	reached atomic.Bool
}

func (l *loop) do(ctx context.Context, op func() error) error {
	start := time.Now() //nolint:forbidigo // like the pauses of package backoff; tests run in a synctest bubble
	var last error
	final := false
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		if last = op(); last == nil {
			l.reached.Store(true)
			return struct{}{}, nil
		}
		if !l.again(last, time.Since(start)) { //nolint:forbidigo // as above
			final = true
			return struct{}{}, backoff.Permanent(last)
		}
		return struct{}{}, last
	}, backoff.WithBackOff(l.pauses()), backoff.WithMaxElapsedTime(l.policy.MaxElapsed), backoff.WithNotify(l.notify))
	if err != nil && !final && ctx.Err() != nil {
		return &objstore.Error{Op: "retry", Class: objstore.Canceled, Err: fmt.Errorf("%w after: %w", ctx.Err(), last)}
	}
	return err
}

// again tells whether a call that failed so, this long after its first attempt
// began, may be repeated.
func (l *loop) again(err error, elapsed time.Duration) bool {
	switch objstore.ClassOf(err) {
	case objstore.Retryable:
		l.reached.Store(true)
		return true
	case objstore.Unreachable:
		return l.reached.Load() || elapsed < l.policy.FirstContact
	case objstore.Canceled:
	default: // an answer, if not the one hoped for
		l.reached.Store(true)
	}
	return false
}

func (l *loop) pauses() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier = l.policy.Initial, l.policy.MaxPause, 2
	return b
}

func (l *loop) notify(err error, wait time.Duration) {
	if l.policy.Notify != nil {
		l.policy.Notify(err, wait)
	}
}
