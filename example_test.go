package replkv_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/client"
)

// check keeps the examples short. Real programs handle their errors.
func check(err error) {
	if err != nil {
		log.Panic(err)
	}
}

// tempDir returns a directory, and a function that removes it.
func tempDir() (dir string, remove func()) {
	dir, err := os.MkdirTemp("", "replkv-example-")
	check(err)
	return dir, func() { check(os.RemoveAll(dir)) }
}

// A store of a single member needs a directory and nothing else.
func ExampleOpen() {
	dir, remove := tempDir()
	defer remove()
	ctx := context.Background()

	db, err := replkv.Open(replkv.Config{Dir: dir})
	check(err)
	rev, err := db.Set(ctx, "username", []byte("admin"))
	check(err)
	item, err := db.Get(ctx, "username")
	check(err)
	fmt.Printf("%s=%s at revision %d\n", item.Key, item.Value, rev)
	check(db.Shutdown(ctx))
	// Output: username=admin at revision 2
}

// A backup begins a new cluster, here of one member. A directory is good once Restore
// has returned nil.
func ExampleRestore() {
	dir, remove := tempDir()
	defer remove()
	ctx := context.Background()
	db, err := replkv.Open(replkv.Config{Dir: filepath.Join(dir, "old")})
	check(err)
	_, err = db.Set(ctx, "username", []byte("admin"))
	check(err)

	name := filepath.Join(dir, "backup")
	f, err := os.Create(name)
	check(err)
	info, err := db.Backup(ctx, f)
	check(errors.Join(err, f.Sync(), f.Close()))
	fmt.Println("the backup is of revision", info.Revision)
	check(db.Close())

	cfg := replkv.Config{Dir: filepath.Join(dir, "new")}
	f, err = os.Open(name)
	check(err)
	_, err = replkv.Restore(ctx, cfg, f)
	check(errors.Join(err, f.Close()))
	db, err = replkv.Open(cfg)
	check(err)
	defer db.Close()
	item, err := db.Get(ctx, "username")
	check(err)
	fmt.Printf("%s=%s\n", item.Key, item.Value)
	// Output:
	// the backup is of revision 2
	// username=admin
}

// A watch goes on from the revision that was seen last, in this process or in
// another. All events of one revision come together.
func ExampleDB_Watch() {
	dir, remove := tempDir()
	defer remove()
	ctx := context.Background()
	db, err := replkv.Open(replkv.Config{Dir: dir})
	check(err)
	for _, key := range []string{"jobs/1", "jobs/2", "users/1"} {
		_, err := db.Set(ctx, key, []byte("new"))
		check(err)
	}
	_, err = db.DeleteRange(ctx, replkv.Prefix("jobs/"))
	check(err)
	for c, err := range db.Watch(ctx, replkv.Prefix("jobs/"), replkv.FromRevision(1)) {
		check(err)
		for _, e := range c.Events { // all of one revision
			fmt.Println(c.Revision, e.Kind, e.Item.Key)
		}
		if len(c.Events) == 2 {
			break // else until ctx ends
		}
	}
	check(db.Shutdown(ctx))
	// Output:
	// 2 put jobs/1
	// 3 put jobs/2
	// 5 delete jobs/1
	// 5 delete jobs/2
}

// A copy of a range, kept up to date: whatever happens, it comes to what the
// store holds.
func ExampleWatchSnapshot() {
	dir, remove := tempDir()
	defer remove()
	ctx := context.Background()
	db, err := replkv.Open(replkv.Config{Dir: dir})
	check(err)
	for key, value := range map[string]string{"a": "1", "b": "2"} {
		_, err := db.Set(ctx, key, []byte(value))
		check(err)
	}
	mirror := map[string]string{}
	for c, err := range replkv.WatchSnapshot(ctx, db, replkv.All()) {
		check(err)
		for _, e := range c.Events {
			if e.Kind == replkv.EventDelete {
				delete(mirror, e.Item.Key)
			} else {
				mirror[e.Item.Key] = string(e.Item.Value)
			}
		}
		if c.Progress { // all of the state is there
			_, err := db.Delete(ctx, "a")
			check(err)
		}
		if c.Revision == 4 {
			break
		}
	}
	fmt.Println(mirror)
	check(db.Shutdown(ctx))
	// Output: map[b:2]
}

// Three members, here in one process: any two of them go on without the third.
func Example_threeMembers() {
	dir, remove := tempDir()
	defer remove()
	ctx := context.Background()

	var members []replkv.Member
	var listeners []net.Listener
	for _, id := range []string{"a", "b", "c"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		check(err)
		listeners = append(listeners, l)
		members = append(members, replkv.Member{ID: id, Addr: l.Addr().String()})
	}
	var dbs []*replkv.DB
	for i, m := range members {
		db, err := replkv.Open(replkv.Config{
			Dir: filepath.Join(dir, m.ID), ID: m.ID, Addr: m.Addr, Listener: listeners[i],
			InitialCluster: members, InsecurePeers: true, // loopback; else PeerTLS
		})
		check(err)
		defer db.Close()
		dbs = append(dbs, db)
	}

	_, err := dbs[0].Set(ctx, "username", []byte("admin")) // any member writes
	check(err)
	item, err := dbs[2].Get(ctx, "username") // and reads what all have written
	check(err)
	fmt.Printf("%s=%s\n", item.Key, item.Value)
	// Output: username=admin
}

// Each member on a machine of its own, with certificates: the same code with
// another id.
func Example_machines() {
	id := os.Getenv("MEMBER") // a, b or c
	certificate, err := tls.LoadX509KeyPair("member.pem", "member.key")
	check(err)
	authority, err := os.ReadFile("authority.pem")
	check(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)

	addrs := map[string]string{"a": "10.0.0.1:7000", "b": "10.0.0.2:7000", "c": "10.0.0.3:7000"}
	var members []replkv.Member
	for id, addr := range addrs {
		members = append(members, replkv.Member{ID: id, Addr: addr})
	}
	db, err := replkv.Open(replkv.Config{
		Dir: "data", ID: id, Addr: addrs[id], Listen: ":7000", InitialCluster: members,
		PeerTLS: &tls.Config{
			Certificates: []tls.Certificate{certificate}, // the DNS names hold the id
			RootCAs:      pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
		},
	})
	check(err)
	defer db.Close()
	check(db.Ready(context.Background())) // there is a leader, and this member has caught up
}

// authenticate lets clients in that know the secret. Members of the cluster
// authenticate each other: their methods pass.
func authenticate(ctx context.Context, fullMethod string) error {
	if replkv.IsPeerMethod(fullMethod) {
		return nil
	}
	md, _ := metadata.FromIncomingContext(ctx)
	if got := md.Get("authorization"); len(got) != 1 || got[0] != "Bearer secret" {
		return status.Error(codes.Unauthenticated, "who are you?")
	}
	return nil
}

func authenticateUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := authenticate(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func authenticateStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := authenticate(stream.Context(), info.FullMethod); err != nil {
		return err
	}
	return next(srv, stream)
}

// mount serves peers and clients on the application's own gRPC server.
func mount(db *replkv.DB) (*grpc.Server, error) {
	srv := grpc.NewServer(grpc.UnaryInterceptor(authenticateUnary), grpc.StreamInterceptor(authenticateStream))
	// Services of the application, and these two, before Serve:
	return srv, errors.Join(db.RegisterPeer(srv), db.RegisterClient(srv))
}

// stop ends a member and its server. In this order: Shutdown ends the store's
// streams, which GracefulStop would wait for.
func stop(db *replkv.DB, srv *grpc.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := db.Shutdown(ctx)
	srv.GracefulStop()
	return err
}

// The application's gRPC server carries peers and clients, behind its own
// authentication.
func ExampleDB_RegisterPeer() {
	dir, remove := tempDir()
	defer remove()
	ctx := context.Background()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	me := replkv.Member{ID: "a", Addr: l.Addr().String()}
	db, err := replkv.Open(replkv.Config{Dir: dir, ID: me.ID, Addr: me.Addr, InitialCluster: []replkv.Member{me}, InsecurePeers: true})
	check(err)
	srv, err := mount(db)
	check(err)
	go srv.Serve(l)

	c, err := client.Dial(client.Config{Endpoints: []string{me.Addr}, Insecure: true})
	check(err)
	defer c.Close()
	_, err = c.Set(ctx, "username", []byte("admin"))
	fmt.Println("a stranger:", status.Code(err))
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer secret")
	rev, err := c.Set(ctx, "username", []byte("admin"))
	check(err)
	fmt.Println("a friend: revision", rev)
	check(stop(db, srv))
	// Output:
	// a stranger: Unauthenticated
	// a friend: revision 2
}

// A scan sees one revision, whatever is written meanwhile, so its body may
// write.
func ExampleDB_Scan() {
	dir, remove := tempDir()
	defer remove()
	ctx := context.Background()
	db, err := replkv.Open(replkv.Config{Dir: dir})
	check(err)
	defer db.Close()
	for _, city := range []string{"Potsdam", "Berlin", "Jena"} {
		_, err := db.Set(ctx, "city/"+city, nil)
		check(err)
	}
	for item, err := range db.Scan(ctx, replkv.Prefix("city/"), replkv.Limit(2)) {
		check(err)
		_, err := db.Delete(ctx, item.Key)
		check(err)
		fmt.Println(item.Key)
	}
	// Output:
	// city/Berlin
	// city/Jena
}

// A key with a lease is there as long as somebody keeps the lease alive: here, for
// as long as a worker works.
func ExampleDB_KeepAlive() {
	dir, remove := tempDir()
	defer remove()
	ctx := context.Background()
	db, err := replkv.Open(replkv.Config{Dir: dir})
	check(err)
	defer db.Close()

	lease, err := db.Grant(ctx, 15*time.Second)
	check(err)
	_, err = db.Set(ctx, "workers/1", []byte("10.0.0.7:80"), replkv.WithLease(lease))
	check(err)
	work, stop := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- db.KeepAlive(work, lease) }()

	item, err := db.Get(ctx, "workers/1")
	check(err)
	fmt.Println(item.Key, "is up:", item.Lease == lease)

	stop()
	fmt.Println(errors.Is(<-ended, context.Canceled))
	check(db.Revoke(ctx, lease)) // or let it expire
	_, err = db.Get(ctx, "workers/1")
	fmt.Println(errors.Is(err, replkv.ErrNotFound))
	// Output:
	// workers/1 is up: true
	// true
	// true
}

// A conditional write is done only if nobody else has written meanwhile.
func ExampleIfRevision() {
	dir, remove := tempDir()
	defer remove()
	ctx := context.Background()
	db, err := replkv.Open(replkv.Config{Dir: dir})
	check(err)
	defer db.Close()

	rev, err := db.Set(ctx, "owner", []byte("a"), replkv.IfAbsent())
	check(err)
	_, err = db.Set(ctx, "owner", []byte("b"), replkv.IfAbsent())
	fmt.Println(errors.Is(err, replkv.ErrConflict), replkv.OutcomeOf(err))
	_, err = db.Set(ctx, "owner", []byte("b"), replkv.IfRevision(rev))
	fmt.Println(err)
	// Output:
	// true not done
	// <nil>
}

// A transaction moves a key if it is there and the other is not.
func ExampleDB_Txn() {
	dir, remove := tempDir()
	defer remove()
	ctx := context.Background()
	db, err := replkv.Open(replkv.Config{Dir: dir})
	check(err)
	defer db.Close()
	_, err = db.Set(ctx, "draft", []byte("text"))
	check(err)

	res, err := db.Txn(ctx, replkv.Txn{
		If:   []replkv.Compare{replkv.ValueIs("draft", []byte("text")), replkv.Absent("final")},
		Then: []replkv.Op{replkv.SetOp("final", []byte("text")), replkv.DeleteOp(replkv.Key("draft"))},
		Else: []replkv.Op{replkv.GetOp(replkv.Key("draft"))},
	})
	check(err)
	fmt.Println(res.Succeeded, res.Revision)
	// Output: true 3
}

// An Update reads and writes as if nobody else were there. It runs again if
// somebody was.
func ExampleDB_Update() {
	dir, remove := tempDir()
	defer remove()
	ctx := context.Background()
	db, err := replkv.Open(replkv.Config{Dir: dir})
	check(err)
	defer db.Close()

	var n int
	_, err = db.Update(ctx, func(tx *replkv.Tx) error {
		n = 0
		item, err := tx.Get("visits")
		if err != nil && !errors.Is(err, replkv.ErrNotFound) {
			return err
		}
		if err == nil {
			if n, err = strconv.Atoi(string(item.Value)); err != nil {
				return err
			}
		}
		n++
		return tx.Set("visits", []byte(strconv.Itoa(n)))
	})
	check(err)
	fmt.Println(n)
	// Output: 1
}
