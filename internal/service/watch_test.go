package service

import (
	"context"
	"fmt"
	"iter"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/service/kvtest"
	"github.com/replkv/replkv/kv"
)

// Every message fits the default limit, whatever the change: many large values,
// or one of the largest with its previous one.
func TestWatchMessages(t *testing.T) {
	f := kvtest.NewFake()
	c := replkvv1.NewKVClient(serve(t, f))
	set := func(key string, size int) {
		if _, err := f.Set(t.Context(), key, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	set("largest", kvtest.MaxValueBytes)
	set("largest", kvtest.MaxValueBytes)
	for i := range 50 {
		set(fmt.Sprintf("k%d", i), 100<<10)
	}
	if _, err := f.DeleteRange(t.Context(), kv.All()); err != nil {
		t.Fatal(err)
	}
	stream, err := c.Watch(t.Context(), &replkvv1.WatchRequest{Range: everything, AfterRevision: proto.Int64(2), WithPrevious: true})
	if err != nil {
		t.Fatal(err)
	}
	first, err := stream.Recv()
	if err != nil || !first.GetProgress() || first.GetRevision() != 2 || len(first.GetEvents()) != 0 {
		t.Fatalf("the first message: %v, %v", first, err)
	}
	parts, events, previous := 0, 0, 0
	for want := int64(3); want <= 54; {
		msg, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if n := proto.Size(msg); n > watchPartBytes+64 && len(msg.GetEvents()) > 1 || n > maxMessageBytes || msg.GetRevision() != want {
			t.Errorf("message of %d bytes with %d events of %d, want %d", n, len(msg.GetEvents()), msg.GetRevision(), want)
		}
		for _, e := range msg.GetEvents() {
			if e.GetKind() != replkvv1.Event_KIND_PREVIOUS {
				events++
			}
			if e.GetPrev() != nil {
				previous++
			}
		}
		if msg.GetContinued() {
			parts++
		} else {
			want++
		}
	}
	if parts < 6 || events != 51+51 || previous != 1+51 {
		t.Errorf("%d messages that go on, %d events, %d previous items", parts, events, previous)
	}
}

func TestWatchRefuses(t *testing.T) {
	f := kvtest.NewFake()
	c := replkvv1.NewKVClient(serve(t, f))
	if _, err := f.Set(t.Context(), "k", nil); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		req    *replkvv1.WatchRequest
		code   codes.Code
		reason string
	}{
		"no range":          {&replkvv1.WatchRequest{}, codes.InvalidArgument, "INVALID_ARGUMENT"},
		"inverted":          {&replkvv1.WatchRequest{Range: &replkvv1.Range{From: []byte("b"), To: []byte("a")}}, codes.InvalidArgument, "INVALID_ARGUMENT"},
		"negative revision": {&replkvv1.WatchRequest{Range: everything, AfterRevision: proto.Int64(-1)}, codes.InvalidArgument, "INVALID_ARGUMENT"},
		"both filters":      {&replkvv1.WatchRequest{Range: everything, OnlyPuts: true, OnlyDeletes: true}, codes.InvalidArgument, "INVALID_ARGUMENT"},
		"negative progress": {&replkvv1.WatchRequest{Range: everything, ProgressMs: -1}, codes.InvalidArgument, "INVALID_ARGUMENT"},
		"much progress":     {&replkvv1.WatchRequest{Range: everything, ProgressMs: 1}, codes.InvalidArgument, "INVALID_ARGUMENT"},
		"the future":        {&replkvv1.WatchRequest{Range: everything, AfterRevision: proto.Int64(3)}, codes.OutOfRange, "FUTURE_REVISION"},
		"least progress":    {&replkvv1.WatchRequest{Range: everything, ProgressMs: -1 << 63}, codes.InvalidArgument, "INVALID_ARGUMENT"},
	} {
		t.Run(name, func(t *testing.T) {
			stream, err := c.Watch(t.Context(), test.req)
			for err == nil {
				_, err = stream.Recv()
			}
			wantStatus(t, err, test.code, test.reason, refused)
		})
	}
	if _, err := f.Set(t.Context(), "k", nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Compact(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	stream, err := c.Watch(t.Context(), &replkvv1.WatchRequest{Range: everything, AfterRevision: proto.Int64(1)})
	for err == nil {
		_, err = stream.Recv()
	}
	wantStatus(t, err, codes.OutOfRange, "COMPACTED", refused)
}

// watchedWatch says when the handler has left the backend's loop.
type watchedWatch struct {
	*kvtest.Fake
	left chan struct{}
}

func (w *watchedWatch) Watch(ctx context.Context, r kv.Range, opts ...kv.WatchOption) iter.Seq2[kv.Change, error] {
	return func(yield func(kv.Change, error) bool) {
		defer close(w.left)
		w.Fake.Watch(ctx, r, opts...)(yield)
	}
}

// A watch ends when its client does, whether it sends, to one that does not read,
// or has nothing to send; and when the backend is closed.
func TestWatchEnds(t *testing.T) {
	for name, changes := range map[string]int{"sending": 20, "waiting": 0} {
		t.Run(name, func(t *testing.T) {
			w := &watchedWatch{kvtest.NewFake(), make(chan struct{})}
			c := replkvv1.NewKVClient(serveBackend(t, w))
			for i := range changes {
				if _, err := w.Set(t.Context(), fmt.Sprint(i), make([]byte, 1<<20)); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream, err := c.Watch(ctx, &replkvv1.WatchRequest{Range: everything, AfterRevision: proto.Int64(1)})
			if err == nil {
				_, err = stream.Recv()
			}
			if err != nil {
				t.Fatal(err)
			}
			cancel()
			for err == nil {
				_, err = stream.Recv()
			}
			if status.Code(err) != codes.Canceled {
				t.Errorf("got %v", err)
			}
			<-w.left
		})
	}
	f := kvtest.NewFake()
	stream, err := replkvv1.NewKVClient(serve(t, f)).Watch(t.Context(), &replkvv1.WatchRequest{Range: everything})
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	_, err = stream.Recv()
	wantStatus(t, err, codes.Unavailable, "CLOSED", refused)
}
