package kvtest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/replkv/replkv/kv"
)

// following runs a watch beside the test, which pulls its changes.
type following struct {
	t    *testing.T
	next func() (kv.Change, error, bool)
}

// follow begins a watch; its first Change is pulled by take. Unless it begins
// after a revision, the caller must not write before the first take.
func follow(t *testing.T, s kv.KV, r kv.Range, opts ...kv.WatchOption) *following {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	next, stop := iter.Pull2(s.Watch(ctx, r, opts...))
	t.Cleanup(func() { stop(); cancel() })
	return &following{t, next}
}

// take returns the next change.
func (f *following) take() kv.Change {
	f.t.Helper()
	c, err, ok := f.next()
	if err != nil || !ok {
		f.t.Fatalf("a watch ended: %v", err)
	}
	return c
}

// text is a change in short.
func text(c kv.Change) string {
	if c.Progress {
		return fmt.Sprintf("%d progress", c.Revision)
	}
	var parts []string
	for _, e := range c.Events {
		p := fmt.Sprintf("%v %s=%s create %d mod %d version %d", e.Kind, e.Item.Key, e.Item.Value, e.Item.CreateRevision, e.Item.ModRevision, e.Item.Version)
		if e.Kind == kv.EventDelete {
			p = fmt.Sprintf("%v %s mod %d", e.Kind, e.Item.Key, e.Item.ModRevision)
			if e.Item.Value != nil || e.Item.CreateRevision != 0 || e.Item.Version != 0 {
				p += fmt.Sprintf(" but %+v", e.Item)
			}
		}
		if e.Prev != nil {
			p += fmt.Sprintf(" (was %s=%s create %d mod %d version %d)", e.Prev.Key, e.Prev.Value, e.Prev.CreateRevision, e.Prev.ModRevision, e.Prev.Version)
		}
		parts = append(parts, p)
	}
	return fmt.Sprintf("%d: %s", c.Revision, strings.Join(parts, ", "))
}

func (f *following) want(changes ...string) {
	f.t.Helper()
	for _, want := range changes {
		if got := text(f.take()); got != want {
			f.t.Fatalf("got %q, want %q", got, want)
		}
	}
}

// endsWith returns the error that a watch ends with.
func endsWith(ctx context.Context, s kv.KV, r kv.Range, opts ...kv.WatchOption) (last error) {
	for _, err := range s.Watch(ctx, r, opts...) {
		last = err
	}
	return last
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// watches: without a start a watch begins when its loop does.
func watches(t *testing.T, s kv.KV) {
	set(t, s, "a", "before")
	got := make(chan string, 10)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		var last error
		for c, err := range s.Watch(ctx, kv.Prefix("a"), kv.WithProgress(kv.MinProgress)) {
			if last = err; err == nil {
				got <- text(c)
			}
		}
		done <- last
	}()
	if first := <-got; first != "2 progress" { // so it has begun
		t.Fatalf("first %q", first)
	}
	set(t, s, "a", "1")
	set(t, s, "b", "not watched")
	set(t, s, "ab", "")
	for _, want := range []string{"3: put a=1 create 2 mod 3 version 2", "5: put ab= create 5 mod 5 version 1"} {
		c := <-got
		for strings.HasSuffix(c, "progress") {
			c = <-got
		}
		if c != want {
			t.Errorf("got %q, want %q", c, want)
		}
	}
	cancel()
	for {
		select {
		case <-got:
			continue
		case err := <-done:
			want(t, err, context.Canceled)
		}
		break
	}
}

// watchResume: from any revision, and again from any.
func watchResume(t *testing.T, s kv.KV) {
	for i := range 5 {
		set(t, s, "k", fmt.Sprint(i)) // revisions 2 to 6
	}
	all := []string{}
	for i := range 5 {
		all = append(all, fmt.Sprintf("%d: put k=%d create 2 mod %d version %d", i+2, i, i+2, i+1))
	}
	for after := range 6 {
		follow(t, s, kv.All(), kv.AfterRevision(kv.Revision(after))).want(all[max(after-1, 0):]...)
		follow(t, s, kv.All(), kv.FromRevision(kv.Revision(after+1))).want(all[max(after-1, 0):]...)
	}
	next := follow(t, s, kv.Key("k"), kv.FromRevision(7))
	seq := s.Watch(t.Context(), kv.All(), kv.AfterRevision(1))
	for range 2 { // each loop is a watch of its own
		for c, err := range seq {
			if err != nil || text(c) != all[0] {
				t.Errorf("got %v, %v", c, err)
			}
			break
		}
	}
	set(t, s, "k", "5")
	next.want("7: put k=5 create 2 mod 7 version 6")
}

func watchFilters(t *testing.T, s kv.KV) {
	set(t, s, "a", "1")
	set(t, s, "b", "2")
	_, err := s.Delete(t.Context(), "a")
	must(t, err)
	set(t, s, "a", "3")
	follow(t, s, kv.All(), kv.AfterRevision(1), kv.OnlyPuts()).want("2: put a=1 create 2 mod 2 version 1",
		"3: put b=2 create 3 mod 3 version 1", "5: put a=3 create 5 mod 5 version 1")
	deletes := follow(t, s, kv.All(), kv.AfterRevision(1), kv.OnlyDeletes())
	deletes.want("4: delete a mod 4")
	follow(t, s, kv.Between("b", "c"), kv.AfterRevision(1)).want("3: put b=2 create 3 mod 3 version 1")
	_, err = s.Delete(t.Context(), "b")
	must(t, err)
	deletes.want("6: delete b mod 6")
}

func watchPrevious(t *testing.T, s kv.KV) {
	live := follow(t, s, kv.All(), kv.AfterRevision(1), kv.WithPrevious())
	steps := []string{
		"2: put k=1 create 2 mod 2 version 1",
		"3: put k=2 create 2 mod 3 version 2 (was k=1 create 2 mod 2 version 1)",
		"4: delete k mod 4 (was k=2 create 2 mod 3 version 2)",
		"5: put k=3 create 5 mod 5 version 1",
	}
	for i, do := range []func(){
		func() { set(t, s, "k", "1") },
		func() { set(t, s, "k", "2") },
		func() { _, err := s.Delete(t.Context(), "k"); must(t, err) },
		func() { set(t, s, "k", "3") },
	} {
		do()
		live.want(steps[i])
	}
	follow(t, s, kv.All(), kv.AfterRevision(1), kv.WithPrevious()).want(steps...)
}

// watchAtomic: the events of one revision come together, as far as they are in
// the range.
func watchAtomic(t *testing.T, s kv.KV) {
	const n = 300
	all, part := follow(t, s, kv.All(), kv.AfterRevision(1+n)), follow(t, s, kv.Between("k010", "k013"), kv.AfterRevision(1+n))
	for i := range n {
		set(t, s, fmt.Sprintf("k%03d", i), "v")
	}
	_, err := s.DeleteRange(t.Context(), kv.All())
	must(t, err)
	c := all.take()
	if c.Revision != n+2 || len(c.Events) != n {
		t.Fatalf("%d events at %d", len(c.Events), c.Revision)
	}
	for i, e := range c.Events {
		if e.Kind != kv.EventDelete || e.Item.Key != fmt.Sprintf("k%03d", i) {
			t.Fatalf("event %d: %+v", i, e)
		}
	}
	part.want("302: delete k010 mod 302, delete k011 mod 302, delete k012 mod 302")
}

// watchLarge: a change of more than a message holds arrives whole.
func watchLarge(t *testing.T, s kv.KV) {
	w := follow(t, s, kv.All(), kv.AfterRevision(1), kv.WithPrevious())
	for i := range 12 {
		large(t, s, fmt.Sprintf("k%02d", i), byte('a'+i))
		w.take()
	}
	large(t, s, "k00", 'z') // with its previous value: no message holds both
	c := w.take()
	if len(c.Events) != 1 || !filled(c.Events[0].Item.Value, 'z') || c.Events[0].Prev == nil || !filled(c.Events[0].Prev.Value, 'a') {
		t.Errorf("a change of %d events at %d", len(c.Events), c.Revision)
	}
	_, err := s.DeleteRange(t.Context(), kv.All())
	must(t, err)
	if c = w.take(); len(c.Events) != 12 {
		t.Fatalf("%d events", len(c.Events))
	}
	for i, e := range c.Events[1:] {
		if e.Prev == nil || !filled(e.Prev.Value, byte('b'+i)) || e.Prev.Key != e.Item.Key {
			t.Errorf("event %d has not its previous item", i+1)
		}
	}
}

const largeBytes = 1<<20 - 100

func large(t *testing.T, s kv.KV, key string, with byte) {
	t.Helper()
	set(t, s, key, strings.Repeat(string(with), largeBytes))
}

func filled(b []byte, with byte) bool {
	return len(b) == largeBytes && !slices.ContainsFunc(b, func(x byte) bool { return x != with })
}

func watchProgress(t *testing.T, s kv.KV) {
	w := follow(t, s, kv.Key("rare"), kv.AfterRevision(1), kv.WithProgress(kv.MinProgress))
	for i := range 3 {
		rev := set(t, s, "other", fmt.Sprint(i))
		// Progress reaches what happens elsewhere, and never goes back.
		for last := kv.Revision(0); last < rev; {
			c := w.take()
			if !c.Progress || len(c.Events) != 0 || c.Revision < last || c.Revision > rev {
				t.Fatalf("got %s after %d, at %d", text(c), last, rev)
			}
			last = c.Revision
		}
	}
	rev := set(t, s, "rare", "v")
	for {
		c := w.take()
		if !c.Progress {
			if c.Revision != rev {
				t.Errorf("got %s", text(c))
			}
			return
		}
		if c.Revision >= rev {
			t.Fatalf("progress %d before the event of %d", c.Revision, rev)
		}
	}
}

func watchEnds(t *testing.T, s kv.KV) {
	set(t, s, "k", "v")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	want(t, endsWith(ended, s, kv.All(), kv.AfterRevision(1)), context.Canceled)
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	want(t, endsWith(short, s, kv.Key("none"), kv.AfterRevision(1)), context.DeadlineExceeded)
	// ctx ends while the body runs: nothing more is delivered.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	set(t, s, "k", "w")
	n := 0
	for c, err := range s.Watch(ctx, kv.All(), kv.AfterRevision(1)) {
		if n++; n == 1 {
			cancel()
		} else {
			if want(t, err, context.Canceled); n > 2 || len(c.Events) > 0 {
				t.Errorf("got %v after the end of ctx", c)
			}
		}
	}
	if n != 2 {
		t.Errorf("%d pairs", n)
	}
}

func watchInvalid(t *testing.T, s kv.KV) {
	set(t, s, "k", "v") // revision 2
	opts := func(o ...kv.WatchOption) []kv.WatchOption { return o }
	for name, c := range map[string]struct {
		r    kv.Range
		opts []kv.WatchOption
		want error
	}{
		"the zero range":     {kv.Range{}, nil, kv.ErrInvalidArgument},
		"inverted bounds":    {kv.Between("b", "a"), nil, kv.ErrInvalidArgument},
		"from revision 0":    {kv.All(), opts(kv.FromRevision(0)), kv.ErrInvalidArgument},
		"negative revision":  {kv.All(), opts(kv.AfterRevision(-1)), kv.ErrInvalidArgument},
		"puts and deletes":   {kv.All(), opts(kv.OnlyPuts(), kv.OnlyDeletes()), kv.ErrInvalidArgument},
		"progress of 0":      {kv.All(), opts(kv.WithProgress(0)), kv.ErrInvalidArgument},
		"negative progress":  {kv.All(), opts(kv.WithProgress(-time.Hour)), kv.ErrInvalidArgument},
		"progress too often": {kv.All(), opts(kv.WithProgress(time.Millisecond)), kv.ErrInvalidArgument},
		"after the future":   {kv.All(), opts(kv.AfterRevision(3)), kv.ErrFutureRevision},
		"from the future":    {kv.All(), opts(kv.FromRevision(4)), kv.ErrFutureRevision},
		"the last revision":  {kv.All(), opts(kv.AfterRevision(1<<63 - 1)), kv.ErrFutureRevision},
	} {
		t.Run(name, func(t *testing.T) { want(t, endsWith(t.Context(), s, c.r, c.opts...), c.want) })
	}
	for _, err := range kv.WatchSnapshot(t.Context(), s, kv.All(), kv.AfterRevision(1)) {
		want(t, err, kv.ErrInvalidArgument)
	}
	for _, err := range kv.WatchSnapshot(t.Context(), s, kv.Range{}) {
		if !errors.Is(err, kv.ErrInvalidArgument) {
			t.Errorf("WatchSnapshot of the zero range: %v", err)
		}
	}
}

// watchOwnership: what one watcher does to its values, no other sees.
func watchOwnership(t *testing.T, s kv.KV) {
	var ws []*following
	for range 3 {
		ws = append(ws, follow(t, s, kv.All(), kv.AfterRevision(1), kv.WithPrevious()))
	}
	for i := range 4 {
		set(t, s, "k", "value")
		for _, w := range ws {
			e := w.take().Events[0]
			if string(e.Item.Value) != "value" || i > 0 && string(e.Prev.Value) != "value" {
				t.Fatalf("a watcher sees what another did: %+v", e)
			}
			clear(e.Item.Value)
			if e.Prev != nil {
				clear(e.Prev.Value)
				e.Prev.Key = ""
			}
		}
	}
}

// watchSnapshot: the state, then what changes.
func watchSnapshot(t *testing.T, s kv.KV) {
	const n = 1500 // more than one Change of the first listing
	for i := range n {
		set(t, s, fmt.Sprintf("k%04d", i), "v")
	}
	set(t, s, "other", "v")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	next, stop := iter.Pull2(kv.WatchSnapshot(ctx, s, kv.Prefix("k")))
	defer stop()
	f := &following{t, next}
	state := map[string]string{}
	apply := func(c kv.Change) {
		for _, e := range c.Events {
			if e.Kind == kv.EventDelete {
				delete(state, e.Item.Key)
			} else {
				state[e.Item.Key] = string(e.Item.Value)
			}
		}
	}
	for {
		c := f.take()
		if c.Revision != n+2 || len(c.Events) > 1000 {
			t.Errorf("%d events at %d", len(c.Events), c.Revision)
		}
		if apply(c); c.Progress {
			break
		}
	}
	if len(state) != n {
		t.Errorf("%d keys listed", len(state))
	}
	set(t, s, "k0000", "w")
	_, err := s.DeleteRange(t.Context(), kv.From("k0001"))
	must(t, err)
	apply(f.take())
	apply(f.take())
	if len(state) != 1 || state["k0000"] != "w" {
		t.Errorf("in the end %v", state)
	}
}
