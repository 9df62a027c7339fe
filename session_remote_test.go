package replkv_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/replkv/replkv"
	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/client"
	"github.com/replkv/replkv/internal/wireerr"
	"github.com/replkv/replkv/replkvtest"
)

// front serves a member's clients; the members talk in memory.
type front struct {
	addr string
	srv  *grpc.Server
	done chan struct{}
}

// start serves db, at the address it had before if there is one.
func (f *front) start(t *testing.T, db *replkv.DB) {
	t.Helper()
	addr := f.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	srv, done := grpc.NewServer(), make(chan struct{})
	if err := db.RegisterClient(srv); err != nil {
		t.Fatal(err)
	}
	go func() { defer close(done); srv.Serve(l) }()
	f.addr, f.srv, f.done = l.Addr().String(), srv, done
}

func (f *front) stop() { f.srv.Stop(); <-f.done }

func fronts(t *testing.T, c *replkvtest.Cluster) (out []*front, addrs []string) {
	t.Helper()
	for i := range c.Len() {
		f := &front{}
		f.start(t, c.DB(i))
		t.Cleanup(func() { f.stop() })
		out, addrs = append(out, f), append(addrs, f.addr)
	}
	return out, addrs
}

// TestRemoteWritesAreDoneOnce: while leaders die under a client, with the
// answers they owe it, each write that succeeds was done once.
func TestRemoteWritesAreDoneOnce(t *testing.T) {
	c := replkvtest.NewCluster(t, 3)
	servers, addrs := fronts(t, c)
	cl, err := client.Dial(client.Config{Endpoints: addrs, Insecure: true, RequestTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()

	const keys, callers = 5, 20
	var done, unknown [keys]atomic.Int64
	var total atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range callers {
		wg.Go(func() {
			for i := w; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				switch _, err := cl.Set(t.Context(), fmt.Sprint("k", i%keys), nil); {
				case err == nil:
					done[i%keys].Add(1)
				case errors.Is(err, replkv.ErrOutcomeUnknown):
					unknown[i%keys].Add(1)
				default:
					t.Errorf("a write: %v", err)
				}
				total.Add(1)
			}
		})
	}
	more := func() {
		t.Helper()
		from := total.Load()
		for end := time.Now().Add(30 * time.Second); total.Load() < from+500; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the writes stand still")
			}
		}
	}
	for round := range 4 {
		more()
		i := c.Leader()
		switch round % 2 {
		case 0: // the machine dies
			servers[i].stop()
			c.Crash(i)
		case 1: // the process ends, and its server answers until it has
			c.Stop(i)
			servers[i].stop()
		}
		more()
		c.Restart(i)
		servers[i].start(t, c.DB(i))
		c.WaitReady()
	}
	more()
	close(stop)
	wg.Wait()
	for k := range keys {
		item, err := cl.Get(t.Context(), fmt.Sprint("k", k))
		if err != nil {
			t.Fatal(err)
		}
		least, most := done[k].Load(), done[k].Load()+unknown[k].Load()
		t.Logf("%s: version %d, %d writes succeeded, %d are unknown", item.Key, item.Version, least, most-least)
		if item.Version < least || item.Version > most {
			t.Errorf("%s: version %d, %d writes succeeded, %d are unknown", item.Key, item.Version, least, most-least)
		}
		if most > least {
			t.Errorf("%s: the outcome of %d writes stayed unknown", item.Key, most-least)
		}
	}
}

func kvClient(t *testing.T, addr string) replkvv1.KVClient {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return replkvv1.NewKVClient(conn)
}

func setOf(key string, n int) *replkvv1.WriteOperation {
	return &replkvv1.WriteOperation{Operation: &replkvv1.WriteOperation_Set{Set: &replkvv1.SetRequest{Key: []byte(key), Value: make([]byte, n)}}}
}

// TestOneBatchAtManyMembers: copies of a batch, over all members and at once,
// are one batch, also its refusals.
func TestOneBatchAtManyMembers(t *testing.T) {
	c := replkvtest.NewCluster(t, 3, replkvtest.WithConfig(func(i int, cfg *replkv.Config) {
		cfg.MaxValueBytes = 1024 << i // members that do not agree on what is refused
	}))
	_, addrs := fronts(t, c)
	var kvs []replkvv1.KVClient
	for _, a := range addrs {
		kvs = append(kvs, kvClient(t, a))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := kvs[0].OpenSession(ctx, &replkvv1.OpenSessionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for seq := range uint64(5) {
		req := &replkvv1.WriteRequest{Session: s.GetSession(), Seq: seq + 1, LowWater: seq, Operations: []*replkvv1.WriteOperation{
			setOf("k", 1), setOf("", 1), setOf("k", 1), setOf("large", 2000),
			{Operation: &replkvv1.WriteOperation_Set{Set: &replkvv1.SetRequest{Key: []byte("k"), Condition: &replkvv1.Condition{IfRevision: 1}}}},
		}}
		// Who comes first decides what becomes of the large one.
		first, err := kvs[seq%3].Write(ctx, req)
		if err != nil || len(first.GetResults()) != 5 {
			t.Fatalf("got %v, %v", first, err)
		}
		if r := first.GetResults(); len(r[0].GetError()) > 0 || len(r[1].GetError()) == 0 || len(r[2].GetError()) > 0 ||
			(len(r[3].GetError()) > 0) != (seq%3 == 0) || len(r[4].GetError()) == 0 {
			t.Errorf("got %v", r)
		}
		var wg sync.WaitGroup
		for i := range 9 {
			wg.Go(func() {
				again, err := kvs[i%3].Write(ctx, req)
				if err != nil || len(again.GetResults()) != 5 {
					t.Errorf("member %d: %v, %v", i%3, again, err)
					return
				}
				for j, r := range again.GetResults() {
					f := first.GetResults()[j]
					if r.GetRevision() != f.GetRevision() || (len(r.GetError()) > 0) != (len(f.GetError()) > 0) || j != 3 && !proto.Equal(r, f) {
						t.Errorf("member %d, operation %d: %v, first %v", i%3, j, r, f)
					}
				}
			})
		}
		wg.Wait()
	}
	res, err := kvs[1].Get(ctx, &replkvv1.GetRequest{Key: []byte("k")})
	if err != nil || res.GetItem().GetVersion() != 10 {
		t.Errorf("%v, %v", res, err)
	}

	wantErr := func(name string, req *replkvv1.WriteRequest, sentinel error, outcome replkv.Outcome) {
		t.Helper()
		for i, k := range kvs {
			_, err := k.Write(ctx, req)
			err = wireerr.FromStatus(err)
			if !errors.Is(err, sentinel) || replkv.OutcomeOf(err) != outcome {
				t.Errorf("%s at member %d: %v (%v)", name, i, err, replkv.OutcomeOf(err))
			}
		}
	}
	one := []*replkvv1.WriteOperation{setOf("k", 1)}
	id := s.GetSession()
	wantErr("an answered batch", &replkvv1.WriteRequest{Session: id, Seq: 4, LowWater: 3, Operations: one}, replkv.ErrOutcomeUnknown, replkv.OutcomeUnknown)
	wantErr("another batch of the number", &replkvv1.WriteRequest{Session: id, Seq: 5, LowWater: 4, Operations: one}, replkv.ErrInvalidArgument, replkv.OutcomeNotDone)
	wantErr("a batch too far ahead", &replkvv1.WriteRequest{Session: id, Seq: 70, LowWater: 4, Operations: one}, replkv.ErrInvalidArgument, replkv.OutcomeNotDone)
	wantErr("no such session", &replkvv1.WriteRequest{Session: []byte("0123456789abcdef"), Seq: 1, Operations: one}, replkv.ErrSessionNotFound, replkv.OutcomeNotDone)
	if res, err := kvs[1].Get(ctx, &replkvv1.GetRequest{Key: []byte("k")}); err != nil || res.GetItem().GetVersion() != 10 {
		t.Errorf("%v, %v", res, err)
	}
}

// TestAnEvictedRemoteSession: the session unused for longest is refused when
// there are too many, and a client goes on with another.
func TestAnEvictedRemoteSession(t *testing.T) {
	if testing.Short() {
		t.Skip("opens 10,000 sessions")
	}
	db := replkvtest.Open(t)
	f := &front{}
	f.start(t, db)
	defer func() { f.stop() }()
	cl, err := client.Dial(client.Config{Endpoints: []string{f.addr}, Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := cl.Set(t.Context(), "k", nil); err != nil {
		t.Fatal(err)
	}
	k := kvClient(t, f.addr)
	s, err := k.OpenSession(t.Context(), &replkvv1.OpenSessionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	req := &replkvv1.WriteRequest{Session: s.GetSession(), Seq: 1, Operations: []*replkvv1.WriteOperation{setOf("k", 1)}}
	if _, err := k.Write(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for range 100 {
				if _, err := k.OpenSession(t.Context(), &replkvv1.OpenSessionRequest{}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	_, err = k.Write(t.Context(), req)
	if err = wireerr.FromStatus(err); !errors.Is(err, replkv.ErrSessionNotFound) || replkv.OutcomeOf(err) != replkv.OutcomeNotDone {
		t.Errorf("got %v (%v)", err, replkv.OutcomeOf(err))
	}
	if _, err := cl.Set(t.Context(), "k", nil); err != nil {
		t.Errorf("the client: %v", err)
	}
	if item, err := db.Get(t.Context(), "k"); err != nil || item.Version != 3 {
		t.Errorf("%+v, %v", item, err)
	}
}

// TestRemoteWritesAreBounded: a member that reaches no leader does not collect
// its clients' batches without end.
func TestRemoteWritesAreBounded(t *testing.T) {
	c := replkvtest.NewCluster(t, 3, replkvtest.WithConfig(func(_ int, cfg *replkv.Config) { cfg.MaxInFlightBytes = 4 << 20 }))
	_, addrs := fronts(t, c)
	lonely := (c.Leader() + 1) % 3
	k := kvClient(t, addrs[lonely])
	s, err := k.OpenSession(t.Context(), &replkvv1.OpenSessionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	write := func(ctx context.Context, seq uint64) error {
		_, err := k.Write(ctx, &replkvv1.WriteRequest{Session: s.GetSession(), Seq: seq, Operations: []*replkvv1.WriteOperation{setOf("k", 1<<20-100)}})
		return wireerr.FromStatus(err)
	}
	c.Partition([]int{(lonely + 1) % 3, (lonely + 2) % 3})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan error, 5)
	for seq := range uint64(5) {
		go func() { got <- write(ctx, seq+1) }()
	}
	select {
	case err := <-got:
		if !errors.Is(err, replkv.ErrOverloaded) || replkv.OutcomeOf(err) != replkv.OutcomeNotDone {
			t.Errorf("got %v (%v)", err, replkv.OutcomeOf(err))
		}
	case <-time.After(5 * time.Second):
		t.Error("5 MiB wait")
	}
	cancel()
	for range 4 {
		<-got
	}
	c.Heal()
	ctx, cancel = context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for err := write(ctx, 9); err != nil; err = write(ctx, 9) { // the server may not have noticed yet that the others left
		if !errors.Is(err, replkv.ErrOverloaded) {
			t.Fatal(err)
		}
	}
}
