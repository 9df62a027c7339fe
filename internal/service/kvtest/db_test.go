package kvtest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/client"
	"github.com/replkv/replkv/internal/service/kvtest"
	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/replkvtest"
)

// The embedded handle obeys the table, and so does a client of it.
func TestDB(t *testing.T) {
	kvtest.Run(t, func(t *testing.T) kv.KV { return replkvtest.Open(t) })
}

func TestClientOfADB(t *testing.T) {
	kvtest.Run(t, func(t *testing.T) kv.KV { return dial(t, replkvtest.Open(t)) })
}

// The same for compactions.
func TestCompact(t *testing.T) {
	t.Run("db", func(t *testing.T) { kvtest.RunCompact(t, replkvtest.Open(t)) })
	t.Run("client", func(t *testing.T) { kvtest.RunCompact(t, dial(t, replkvtest.Open(t))) })
	t.Run("follower", func(t *testing.T) {
		c := replkvtest.NewCluster(t, 3)
		kvtest.RunCompact(t, c.DB((c.Leader()+1)%3))
	})
	t.Run("fake", func(t *testing.T) { kvtest.RunCompact(t, kvtest.NewFake()) })
}

// The same for leases, on a follower, too.
func TestLeasesOfADB(t *testing.T) {
	kvtest.RunLessor(t, func(t *testing.T) kvtest.Leased { return replkvtest.Open(t) })
}

func TestLeasesOfAFollower(t *testing.T) {
	kvtest.RunLessor(t, func(t *testing.T) kvtest.Leased {
		c := replkvtest.NewCluster(t, 3)
		return c.DB((c.Leader() + 1) % 3)
	})
}

func TestLeasesOfAClient(t *testing.T) {
	kvtest.RunLessor(t, func(t *testing.T) kvtest.Leased { return dial(t, replkvtest.Open(t)) })
}

// The same for changes of the members.
func TestClusterOfADB(t *testing.T) {
	kvtest.RunCluster(t, func(t *testing.T) kv.Cluster { return replkvtest.NewCluster(t, 1).DB(0) })
}

func TestClientOfACluster(t *testing.T) {
	kvtest.RunCluster(t, func(t *testing.T) kv.Cluster { return dial(t, replkvtest.NewCluster(t, 1).DB(0)) })
}

func dial(t *testing.T, db *replkv.DB) *client.Client {
	srv := grpc.NewServer()
	if err := db.RegisterClient(srv); err != nil {
		t.Fatal(err)
	}
	l := bufconn.Listen(1 << 20)
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	c, err := client.Dial(client.Config{Endpoints: []string{"passthrough:///db"}, Insecure: true, DialOptions: []grpc.DialOption{
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) })}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// A backup that came through a client is the member's own, and can be restored.
func TestBackupOfAClient(t *testing.T) {
	db := replkvtest.Open(t)
	c := dial(t, db)
	for i := range 200 {
		if _, err := c.Set(t.Context(), fmt.Sprint("k", i), make([]byte, 20<<10)); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	n, err := c.Backup(t.Context(), &b)
	if err != nil {
		t.Fatal(err)
	}
	info, err := replkv.VerifyBackup(bytes.NewReader(b.Bytes()))
	if err != nil || info.Bytes != n || info.Revision != 201 {
		t.Fatalf("%d bytes came: %+v, %v", n, info, err)
	}
	if _, err := c.Backup(t.Context(), &b, kv.AtRevision(5)); !errors.Is(err, kv.ErrInvalidArgument) {
		t.Errorf("of an earlier revision: %v", err)
	}
	cfg := replkv.Config{Dir: t.TempDir() + "/new"}
	if _, err := replkv.Restore(t.Context(), cfg, &b); err != nil {
		t.Fatal(err)
	}
	again, err := replkv.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if item, err := again.Get(t.Context(), "k199"); err != nil || len(item.Value) != 20<<10 {
		t.Errorf("%v", err)
	}
}
