package replkv_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/replkv/replkv"
	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/wireerr"
	"github.com/replkv/replkv/replkvtest"
)

// TestStopsUnderRemoteCalls: a member that stops because of its disk tells every remote
// caller that it is closed, also those whom it was about to answer, and not what it
// suffers from: only so package client goes on to another.
func TestStopsUnderRemoteCalls(t *testing.T) {
	for _, who := range []string{"leader", "follower"} {
		t.Run(who, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { stopsUnderRemoteCalls(t, who == "leader") })
		})
	}
}

func stopsUnderRemoteCalls(t *testing.T, leader bool) {
	c := replkvtest.NewCluster(t, 3, replkvtest.WithConfig(func(_ int, cfg *replkv.Config) {
		cfg.ElectionTimeout = 10 * time.Second // what waits for others waits long enough
	}))
	victim := c.Leader()
	if !leader {
		victim = (victim + 1) % 3
	}
	db := c.DB(victim)
	conn := dialInMemory(t, db)
	if _, err := db.Grant(t.Context(), time.Hour, replkv.WithLeaseID(7)); err != nil {
		t.Fatal(err)
	}
	session, err := replkvv1.NewKVClient(conn).OpenSession(t.Context(), &replkvv1.OpenSessionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	calls := everyCall(conn, session.GetSession())

	c.Partition([]int{victim}, []int{(victim + 1) % 3, (victim + 2) % 3})
	var wg sync.WaitGroup
	for name, call := range calls {
		for _, limited := range []bool{false, true} {
			wg.Go(func() { tellsThatItIsClosed(t, fmt.Sprintf("%s, with a deadline: %v", name, limited), call, limited) })
		}
	}
	time.Sleep(time.Second) // now all wait
	replkv.FatalForTest(db, syscall.ENOSPC)
	wg.Wait()
	for name, call := range calls {
		tellsThatItIsClosed(t, name+", afterwards", call, true)
	}
	c.Crash(victim)
	c.Heal()
}

func tellsThatItIsClosed(t *testing.T, name string, call func(context.Context) error, limited bool) {
	ctx := context.Background()
	if limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Minute)
		defer cancel()
	}
	if err := wireerr.FromStatus(call(ctx)); !errors.Is(err, replkv.ErrClosed) {
		t.Errorf("%s: %v", name, err)
	}
}

// dialInMemory connects to a server of db's client services.
func dialInMemory(t *testing.T, db *replkv.DB) *grpc.ClientConn {
	t.Helper()
	l, srv := bufconn.Listen(1<<20), grpc.NewServer()
	if err := db.RegisterClient(srv); err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); srv.Serve(l) }()
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); srv.Stop(); <-served })
	return conn
}

// everyCall are all methods of the client services that ask more than the member itself,
// each with a request that has to wait while the member is cut off.
func everyCall(conn grpc.ClientConnInterface, session []byte) map[string]func(context.Context) error {
	kv, lease := replkvv1.NewKVClient(conn), replkvv1.NewLeaseClient(conn)
	cluster, text := replkvv1.NewClusterClient(conn), replkvv1.NewTextKVClient(conn)
	k, all := []byte("k"), &replkvv1.Range{Open: true}
	set := []*replkvv1.WriteOperation{{Operation: &replkvv1.WriteOperation_Set{Set: &replkvv1.SetRequest{Key: k}}}}
	return map[string]func(context.Context) error{
		"Get":         unary(kv.Get, &replkvv1.GetRequest{Key: k}),
		"Get AtLeast": unary(kv.Get, &replkvv1.GetRequest{Key: k, Read: &replkvv1.ReadOptions{AtLeast: 1 << 40}}),
		"GetMany":     unary(kv.GetMany, &replkvv1.GetManyRequest{Keys: [][]byte{k}}),
		"Set":         unary(kv.Set, &replkvv1.SetRequest{Key: k}),
		"Delete":      unary(kv.Delete, &replkvv1.DeleteRequest{Key: k}),
		"DeleteRange": unary(kv.DeleteRange, &replkvv1.DeleteRangeRequest{Range: all}),
		"Txn":         unary(kv.Txn, &replkvv1.TxnRequest{Then: []*replkvv1.Operation{{Operation: &replkvv1.Operation_Put{Put: &replkvv1.PutOperation{Key: k}}}}}),
		"Scan":        stream(kv.Scan, &replkvv1.ScanRequest{Range: all}),
		"Watch":       stream(kv.Watch, &replkvv1.WatchRequest{Range: all}),
		"Watch after": stream(kv.Watch, &replkvv1.WatchRequest{Range: all, AfterRevision: proto.Int64(1)}),
		"Revision":    unary(kv.Revision, &replkvv1.RevisionRequest{}),
		"Compact":     unary(kv.Compact, &replkvv1.CompactRequest{Revision: 1}),
		"OpenSession": unary(kv.OpenSession, &replkvv1.OpenSessionRequest{}),
		"Write":       unary(kv.Write, &replkvv1.WriteRequest{Session: session, Seq: 1, Operations: set}),

		"Grant":           unary(lease.Grant, &replkvv1.GrantRequest{Id: 8, TtlMs: 60_000}),
		"Revoke":          unary(lease.Revoke, &replkvv1.RevokeRequest{Id: 7}),
		"KeepAlive":       unary(lease.KeepAlive, &replkvv1.KeepAliveRequest{Id: 7}),
		"TimeToLive":      unary(lease.TimeToLive, &replkvv1.TimeToLiveRequest{Id: 7}),
		"TimeToLive keys": unary(lease.TimeToLive, &replkvv1.TimeToLiveRequest{Id: 7, Keys: true}),
		"Leases":          stream(lease.Leases, &replkvv1.LeasesRequest{}),

		"Members":            unary(cluster.Members, &replkvv1.MembersRequest{}),
		"AddVoter":           unary(cluster.AddVoter, &replkvv1.AddVoterRequest{Id: "m9", Address: "m9:1"}),
		"AddVoter if":        unary(cluster.AddVoter, &replkvv1.AddVoterRequest{Id: "m9", Address: "m9:1", IfIndex: proto.Uint64(1)}),
		"AddNonvoter":        unary(cluster.AddNonvoter, &replkvv1.AddNonvoterRequest{Id: "m9", Address: "m9:1"}),
		"Promote":            unary(cluster.Promote, &replkvv1.PromoteRequest{Id: "m9"}),
		"Remove":             unary(cluster.Remove, &replkvv1.RemoveRequest{Id: "m9"}),
		"TransferLeadership": unary(cluster.TransferLeadership, &replkvv1.TransferLeadershipRequest{}),

		"text Set":    unary(text.Set, &replkvv1.TextSetRequest{Key: "k"}),
		"text Get":    unary(text.Get, &replkvv1.TextGetRequest{Key: "k"}),
		"text Delete": unary(text.Delete, &replkvv1.TextDeleteRequest{Key: "k"}),
	}
}

func unary[In, Out any](method func(context.Context, In, ...grpc.CallOption) (Out, error), in In) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := method(ctx, in)
		return err
	}
}

func stream[In, Out any](method func(context.Context, In, ...grpc.CallOption) (grpc.ServerStreamingClient[Out], error), in In) func(context.Context) error {
	return func(ctx context.Context) error {
		s, err := method(ctx, in)
		for err == nil {
			_, err = s.Recv()
		}
		if err == io.EOF {
			return nil
		}
		return err
	}
}
