package concurrency_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/concurrency"
)

// check keeps the examples short. Real programs handle their errors.
func check(err error) {
	if err != nil {
		log.Panic(err)
	}
}

// open returns a store of a single member, and what ends it.
func open() (db *replkv.DB, end func()) {
	dir, err := os.MkdirTemp("", "replkv-example-")
	check(err)
	db, err = replkv.Open(replkv.Config{Dir: dir})
	check(err)
	return db, func() {
		check(db.Close())
		check(os.RemoveAll(dir))
	}
}

// A session, a lock, and a write that is done only while the lock is held.
func Example() {
	db, end := open()
	defer end()
	ctx := context.Background()

	s, err := concurrency.NewSession(ctx, db, 0) // a lease that is kept alive
	check(err)
	defer s.Close(ctx)
	m := concurrency.NewMutex(s, "jobs/nightly")
	token, err := m.Lock(ctx) // token: for what lies outside of the store
	check(err)
	res, err := db.Txn(ctx, replkv.Txn{
		If:   []replkv.Compare{m.IsOwner()}, // also if this process was paused until another had the lock
		Then: []replkv.Op{replkv.SetOp("report", []byte("done"))},
	})
	check(err)
	check(m.Unlock(ctx))
	fmt.Println(token, res.Succeeded)
	// Output: 2 true
}

// Two sessions, which may be on machines far apart, take turns. What the lock
// protects is written only while the lock is held, whatever the holder believes.
func ExampleMutex() {
	db, end := open()
	defer end()
	ctx := context.Background()

	var locks [2]*concurrency.Mutex
	for i := range locks {
		s, err := concurrency.NewSession(ctx, db, 0)
		check(err)
		defer s.Close(ctx)
		locks[i] = concurrency.NewMutex(s, "jobs/nightly")
	}
	first, err := locks[0].Lock(ctx)
	check(err)
	stale := locks[0].IsOwner()
	_, err = locks[1].TryLock(ctx)
	fmt.Println(err)

	check(locks[0].Unlock(ctx)) // or its session ends
	second, err := locks[1].Lock(ctx)
	check(err)
	fmt.Println("the token has risen:", second > first)

	for i, owner := range []replkv.Compare{stale, locks[1].IsOwner()} {
		res, err := db.Txn(ctx, replkv.Txn{
			If:   []replkv.Compare{owner},
			Then: []replkv.Op{replkv.SetOp("report", fmt.Append(nil, "by ", i))},
		})
		check(err)
		fmt.Printf("%d has written: %v\n", i, res.Succeeded)
	}
	// Output:
	// replkv: TryLock: locked by another session
	// the token has risen: true
	// 0 has written: false
	// 1 has written: true
}

// One leads, the other follows when the first has resigned; a third party, which
// needs no session, sees all of it.
func ExampleElection() {
	db, end := open()
	defer end()
	ctx := context.Background()

	var candidates [2]*concurrency.Election
	for i := range candidates {
		s, err := concurrency.NewSession(ctx, db, 0)
		check(err)
		defer s.Close(ctx)
		candidates[i] = concurrency.NewElection(s, "scheduler")
	}
	_, err := candidates[0].Campaign(ctx, []byte("10.0.0.1"))
	check(err)
	follows := make(chan error)
	go func() {
		_, err := candidates[1].Campaign(ctx, []byte("10.0.0.2"))
		follows <- err
	}()
	for it, err := range concurrency.Observe(ctx, db, "scheduler") {
		check(err)
		fmt.Printf("the leader is at %s\n", it.Value)
		switch string(it.Value) {
		case "10.0.0.1":
			check(candidates[0].Proclaim(ctx, []byte("10.0.0.1, leaving")))
		case "10.0.0.1, leaving":
			check(candidates[0].Resign(ctx))
		}
		if string(it.Value) == "10.0.0.2" {
			break
		}
	}
	check(<-follows)
	// Output:
	// the leader is at 10.0.0.1
	// the leader is at 10.0.0.1, leaving
	// the leader is at 10.0.0.2
}
