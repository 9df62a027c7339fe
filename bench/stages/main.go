// Command stages shows where the time of one Set goes: it opens three members
// in this process, on real TCP and disk, and watches their logs.
//
//	go run ./stages -n 3000
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/store/raftlog"
)

// watched is a member's log that notes when its newest StoreLogs began and
// ended.
type watched struct {
	replkv.LogStore
	mu           sync.Mutex // protects the fields below
	began, ended time.Time
}

func (w *watched) StoreLogs(entries []*raft.Log) error {
	began := time.Now()
	err := w.LogStore.StoreLogs(entries)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began, w.ended = began, time.Now()
	return err
}

func (w *watched) times() (began, ended time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.began, w.ended
}

type member struct {
	*replkv.DB
	log *watched
}

func main() {
	n := flag.Int("n", 3000, "Sets to measure, one after the other")
	dir := flag.String("dir", "", "where to put the data; default: a temporary directory")
	flag.Parse()
	if err := run(*dir, *n); err != nil {
		log.Fatal(err)
	}
}

func run(dir string, n int) (err error) {
	base, err := os.MkdirTemp(dir, "replkv-stages-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(base)) }()
	members, err := open(base)
	defer func() {
		for _, m := range members {
			err = errors.Join(err, m.Close())
		}
	}()
	if err != nil {
		return err
	}
	return measure(members, n)
}

func open(base string) (members []member, err error) {
	var table []replkv.Member
	var listeners []net.Listener
	for i := range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		listeners = append(listeners, l)
		table = append(table, replkv.Member{ID: fmt.Sprint("m", i), Addr: l.Addr().String()})
	}
	for i, m := range table {
		w := &watched{}
		db, err := replkv.Open(replkv.Config{Dir: filepath.Join(base, m.ID), ID: m.ID, Addr: m.Addr, Listener: listeners[i],
			InitialCluster: table, InsecurePeers: true,
			LogStore: func(dir string) (_ replkv.LogStore, err error) {
				w.LogStore, err = raftlog.Open(dir, raftlog.Options{})
				return w, err
			}})
		if err != nil {
			return members, err
		}
		members = append(members, member{db, w})
	}
	for _, m := range members {
		if err := m.Ready(context.Background()); err != nil {
			return members, err
		}
	}
	for i, m := range members {
		if m.Status().Role == "leader" {
			members[0], members[i] = m, members[0]
		}
	}
	return members, nil
}

func measure(members []member, n int) error {
	stages := []string{"queue, encode, hand to raft", "leader: write and sync", "meanwhile, to the follower", "follower: write and sync",
		"from the later sync: back, commit, apply, wake up", "the whole Set"}
	took := make([][]time.Duration, len(stages))
	value := make([]byte, 256)
	for i := range n + n/10 {
		began := time.Now()
		if _, err := members[0].Set(context.Background(), fmt.Sprintf("key-%012d", i%1000), value); err != nil {
			return err
		}
		ended := time.Now()
		if i < n/10 {
			continue // warming up
		}
		lb, le := members[0].log.times()
		// The follower that ended first made the majority.
		fb, fe := time.Time{}, ended
		for _, m := range members[1:] {
			if b, e := m.log.times(); b.After(lb) && e.Before(fe) {
				fb, fe = b, e
			}
		}
		if fb.IsZero() || lb.Before(began) {
			continue // an entry of another kind came between
		}
		later := le
		if fe.After(le) {
			later = fe
		}
		for s, d := range []time.Duration{lb.Sub(began), le.Sub(lb), fb.Sub(lb), fe.Sub(fb), ended.Sub(later), ended.Sub(began)} {
			took[s] = append(took[s], d)
		}
	}
	fmt.Printf("%-50s %10s %10s %10s\n", "", "p50", "p90", "p99")
	for s, name := range stages {
		slices.Sort(took[s])
		at := func(p int) time.Duration { return took[s][len(took[s])*p/100].Round(time.Microsecond) }
		fmt.Printf("%-50s %10v %10v %10v\n", name, at(50), at(90), at(99))
	}
	return nil
}
