package raftlog

import (
	"log/slog"
	"sync"
)

// failure is the first fatal error of a store: set once, never cleared.
type failure struct {
	logger *slog.Logger
	ch     chan struct{} // closed once mu.err is set

	mu struct { // protects the fields below; never held while a callback runs
		sync.Mutex
		err   error
		hooks []func(error)
	}
}

func newFailure(logger *slog.Logger, onFatal func(error)) *failure {
	f := &failure{logger: logger, ch: make(chan struct{})}
	if onFatal != nil {
		f.mu.hooks = append(f.mu.hooks, onFatal)
	}
	return f
}

// fail records err unless an earlier one stands, and returns the one that stands.
func (f *failure) fail(err error) error {
	f.mu.Lock()
	if f.mu.err != nil {
		defer f.mu.Unlock()
		return f.mu.err
	}
	f.mu.err = err
	hooks := f.mu.hooks
	f.mu.hooks = nil
	close(f.ch)
	f.mu.Unlock()

	f.logger.Error("raft log failed; this member must stop", "error", err)
	for _, hook := range hooks {
		hook(err)
	}
	return err
}

// err is the fatal error, nil while there is none.
func (f *failure) err() error {
	select {
	case <-f.ch:
	default:
		return nil // the common case takes no lock
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.err
}

// notify has hook called at the first fatal error: at once if it has happened.
func (f *failure) notify(hook func(error)) {
	f.mu.Lock()
	err := f.mu.err
	if err == nil {
		f.mu.hooks = append(f.mu.hooks, hook)
	}
	f.mu.Unlock()
	if err != nil {
		hook(err)
	}
}
