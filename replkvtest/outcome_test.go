package replkvtest

import (
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/replkv/replkv"
	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/wireerr"
)

// TestARefusalDoesNotEndADoubt: a remote client's write was forwarded, done, and the
// answer lost. The member's attempts after that find no leader, so they certainly did
// nothing; of the write it does not know.
func TestARefusalDoesNotEndADoubt(t *testing.T) {
	c := NewCluster(t, 3, WithConfig(func(_ int, cfg *replkv.Config) { cfg.RequestTimeout = 3 * electionTimeout }))
	lead := c.Leader()
	deaf := (lead + 1) % 3
	kv := rawClient(t, c.DB(deaf))
	s, err := kv.OpenSession(t.Context(), &replkvv1.OpenSessionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	c.in.Cut(lead, deaf)
	_, err = kv.Write(t.Context(), &replkvv1.WriteRequest{Session: s.GetSession(), Seq: 1, Operations: []*replkvv1.WriteOperation{
		{Operation: &replkvv1.WriteOperation_Set{Set: &replkvv1.SetRequest{Key: []byte("k"), Value: []byte("v")}}}}})
	if item, err := c.DB(lead).Get(t.Context(), "k"); err != nil || string(item.Value) != "v" {
		t.Errorf("%q, %v: the test shows nothing", item.Value, err)
	}
	if err = wireerr.FromStatus(err); replkv.OutcomeOf(err) != replkv.OutcomeUnknown {
		t.Errorf("the outcome of what was done: %v, %v", replkv.OutcomeOf(err), err)
	}
	c.Heal()
}

// rawClient is one that does nothing by itself.
func rawClient(t *testing.T, db *replkv.DB) replkvv1.KVClient {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, done := grpc.NewServer(), make(chan struct{})
	if err := db.RegisterClient(srv); err != nil {
		t.Fatal(err)
	}
	go func() { defer close(done); srv.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); srv.Stop(); <-done })
	return replkvv1.NewKVClient(conn)
}
