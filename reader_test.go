package replkv

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestReadersLimits: a batch that waits for too long for one of its readers
// fails that one, at its time; the others get the answer of a later one, and
// those that wait when the store stops are told so.
func TestReadersLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancelCause(t.Context())
		db := &DB{ctx: ctx}
		r := newReads(db)
		limit := func(d time.Duration) context.Context {
			limit, cancel := context.WithTimeoutCause(ctx, d, errTimeout)
			t.Cleanup(cancel)
			return limit
		}
		type answer struct {
			index uint64
			err   error
			at    time.Duration
		}
		began := time.Now()
		join := func(ctx, limit context.Context) <-chan answer {
			out := make(chan answer, 1)
			go func() {
				b, err := r.join(ctx, limit)
				a := answer{err: err, at: time.Since(began)}
				if err == nil {
					a.index = b.index
				}
				out <- a
			}()
			synctest.Wait()
			return out
		}
		own, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		late := join(t.Context(), limit(3*time.Second))
		soon := join(t.Context(), limit(time.Second)) // the earlier limit counts, whoever came first
		brief := join(own, ctx)
		if a := <-soon; !errors.Is(a.err, errTimeout) || a.at != time.Second {
			t.Errorf("the first to give up: %v after %v", a.err, a.at)
		}
		if a := <-brief; !errors.Is(a.err, context.DeadlineExceeded) || a.at != 2*time.Second {
			t.Errorf("a ctx that ends: %v after %v", a.err, a.at)
		}
		r.end(r.take(), readAnswer{index: 7})
		if a := <-late; a.index != 7 || a.err != nil || a.at != 2*time.Second {
			t.Errorf("who may wait for longer: %d, %v after %v", a.index, a.err, a.at)
		}
		waits := join(t.Context(), limit(time.Second))
		stop(ErrClosed)
		r.close()
		if a := <-waits; !errors.Is(a.err, ErrClosed) {
			t.Errorf("who waits while the store stops: %v", a.err)
		}
		if a := <-join(t.Context(), limit(time.Second)); !errors.Is(a.err, ErrClosed) {
			t.Errorf("who comes after that: %v", a.err)
		}
	})
}
