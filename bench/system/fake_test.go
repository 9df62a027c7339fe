package system

import (
	"context"
	"sync"
)

// fake is a cluster of maps. Followers may be behind, and writes may be lost.
type fake struct {
	mu      sync.Mutex
	leader  map[string][]byte
	before  map[string][]byte // the values before the last ones
	behind  bool              // followers show the values before
	readers int
	sets    int
}

func newFake() *fake {
	return &fake{leader: map[string][]byte{}, before: map[string][]byte{}, readers: 3}
}

func (f *fake) Set(_ context.Context, key string, value []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before[key] = value
	if old, ok := f.leader[key]; ok {
		f.before[key] = old
	}
	f.leader[key] = value
	f.sets++
	return nil
}

func (f *fake) Get(ctx context.Context, key string) ([]byte, error) { return f.GetAny(ctx, 0, key) }

func (f *fake) GetAny(_ context.Context, member int, key string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if member > 0 && f.behind {
		return f.before[key], nil
	}
	return f.leader[key], nil
}

func (f *fake) Readers() int  { return f.readers }
func (f *fake) Majority() int { return 2 }
func (f *fake) Close() error  { return nil }
