package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/replkv/replkv"
)

// pool is where values come from: pieces of it do not compress.
var pool = sync.OnceValue(func() []byte {
	rng := rand.NewChaCha8([32]byte{1})
	b := make([]byte, 16<<20)
	rng.Read(b)
	return b
})

func value(rng *rand.Rand, n int) []byte {
	p := pool()
	i := rng.IntN(len(p) - n)
	return p[i : i+n]
}

// key spreads the numbers over the key space.
func key(i int) string { return fmt.Sprintf("key-%016x", uint64(i)*0x9e3779b97f4a7c15) }

// fill sets each of o.keys() keys once.
func fill(db *replkv.DB, o *options) error {
	began := time.Now()
	var next atomic.Int64
	err := callers(512, func(rng *rand.Rand) (bool, error) {
		i := int(next.Add(1)) - 1
		if i >= o.keys() {
			return false, nil
		}
		for {
			_, err := db.Set(context.Background(), key(i), value(rng, o.value))
			if !errors.Is(err, replkv.ErrOverloaded) {
				return true, err
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	took := time.Since(began)
	result("fill", "%d keys of %d bytes in %.0f s: %.0f Set/s", o.keys(), o.value, took.Seconds(), float64(o.keys())/took.Seconds())
	return err
}

// callers runs op on n goroutines until it returns false.
func callers(n int, op func(*rand.Rand) (bool, error)) error {
	var wg sync.WaitGroup
	errs := make([]error, n)
	var failed atomic.Bool
	for c := range n {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(c), uint64(time.Now().UnixNano())))
			for more := true; more && !failed.Load(); {
				if more, errs[c] = op(rng); errs[c] != nil {
					failed.Store(true)
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// sample is one answered call.
type sample struct {
	began time.Time
	took  time.Duration
}

// load is Sets of random keys until it is stopped.
type load struct {
	stop    atomic.Bool
	done    chan struct{}
	mu      sync.Mutex // protects samples
	samples []sample
	err     error // valid after done
}

// setLoad has o.callers callers set random existing keys.
func setLoad(db *replkv.DB, o *options) *load {
	l := &load{done: make(chan struct{})}
	go func() {
		defer close(l.done)
		l.err = callers(o.callers, func(rng *rand.Rand) (bool, error) {
			began := time.Now()
			_, err := db.Set(context.Background(), key(rng.IntN(o.keys())), value(rng, o.value))
			s := sample{began, time.Since(began)}
			l.mu.Lock()
			l.samples = append(l.samples, s)
			l.mu.Unlock()
			return !l.stop.Load(), err
		})
	}()
	return l
}

// during runs the load for d and returns its samples.
func (l *load) during(d time.Duration) []sample {
	l.take()
	select {
	case <-time.After(d):
	case <-l.done:
	}
	return l.take()
}

// take returns the samples since the last take.
func (l *load) take() []sample {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.samples
	l.samples = nil
	return s
}

func (l *load) end() error {
	l.stop.Store(true)
	<-l.done
	return l.err
}

// quantile of the samples' durations, q in percent.
func quantile(s []sample, q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	d := make([]time.Duration, len(s))
	for i := range s {
		d[i] = s[i].took
	}
	slices.Sort(d)
	return d[min(len(d)-1, int(float64(len(d))*q/100))]
}

func median[T cmp.Ordered](v []T) (m T) {
	if len(v) == 0 {
		return m
	}
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
