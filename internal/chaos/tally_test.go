//go:build linux

package chaos

import (
	"errors"
	"sync"
	"time"

	"github.com/replkv/replkv/kv"
)

// tally counts what became of operations.
type tally struct {
	mu                     sync.Mutex // protects the fields below
	acked, unknown, failed int64
	lastWrite              time.Time
	gap                    time.Duration // longest time without an acknowledged write
}

func (t *tally) begin() { t.lastWrite = time.Now() }

func (t *tally) read(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil || errors.Is(err, kv.ErrNotFound) {
		t.acked++
	} else {
		t.failed++
	}
}

func (t *tally) write(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case kv.OutcomeOf(err) == kv.OutcomeDone:
		t.acked++
		t.wrote()
	case kv.OutcomeOf(err) == kv.OutcomeUnknown:
		t.unknown++
	default:
		t.failed++
	}
}

// wrote ends a time without a write.
func (t *tally) wrote() {
	t.gap = max(t.gap, time.Since(t.lastWrite))
	t.lastWrite = time.Now()
}

func (t *tally) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wrote()
}
