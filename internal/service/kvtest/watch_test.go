package kvtest_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/replkv/replkv/client"
	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/replkvtest"
)

// servers are those of a cluster's members, by name.
type servers struct {
	mu sync.Mutex // protects the field below
	at map[string]*bufconn.Listener
}

func (s *servers) dial(ctx context.Context, name string) (net.Conn, error) {
	s.mu.Lock()
	l := s.at[name]
	s.mu.Unlock()
	if l == nil {
		return nil, errors.New("connection refused")
	}
	return l.DialContext(ctx)
}

// serve mounts member i of c, and returns what ends its server.
func (s *servers) serve(t *testing.T, c *replkvtest.Cluster, i int) (stop func()) {
	t.Helper()
	srv := grpc.NewServer()
	if err := c.DB(i).RegisterClient(srv); err != nil {
		t.Fatal(err)
	}
	l := bufconn.Listen(1 << 20)
	go srv.Serve(l)
	s.mu.Lock()
	s.at[fmt.Sprint(i)] = l
	s.mu.Unlock()
	t.Cleanup(srv.Stop)
	return srv.Stop
}

// A client's watch outlives the members that serve it, the leader among them,
// however they end: each revision comes once.
func TestClientWatchAcrossMembers(t *testing.T) {
	c := replkvtest.NewCluster(t, 3)
	s := &servers{at: map[string]*bufconn.Listener{}}
	stop := map[int]func(){}
	for i := range 3 {
		stop[i] = s.serve(t, c, i)
	}
	cl, err := client.Dial(client.Config{Endpoints: []string{"passthrough:///0", "passthrough:///1", "passthrough:///2"}, Insecure: true,
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(s.dial)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cl.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	seen := make(chan kv.Revision, 1000)
	done := make(chan error, 1)
	go func() {
		last := kv.Revision(1)
		var end error
		for ch, err := range cl.Watch(ctx, kv.All(), kv.AfterRevision(1)) {
			if end = err; err != nil {
				break
			}
			if ch.Revision != last+1 {
				t.Errorf("revision %d after %d", ch.Revision, last)
			}
			last = ch.Revision
			seen <- last
		}
		done <- end
	}()
	write := func(n int) {
		t.Helper()
		for range n {
			rev, err := cl.Set(ctx, "k", []byte("v"))
			if err != nil {
				t.Fatal(err)
			}
			for at := kv.Revision(0); at < rev; {
				select {
				case at = <-seen:
				case err := <-done:
					t.Fatalf("the watch ended: %v", err)
				}
			}
		}
	}
	for round := range 6 {
		write(5)
		victim := (c.Leader() + round%2) % 3
		switch round % 3 {
		case 0:
			c.Crash(victim)
			stop[victim]()
		case 1:
			c.Stop(victim)
			stop[victim]()
		default: // the server only
			stop[victim]()
		}
		write(5)
		if round%3 < 2 {
			c.Restart(victim)
		}
		stop[victim] = s.serve(t, c, victim)
		c.WaitReady()
	}
	write(5)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
