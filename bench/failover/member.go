package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/replkv/replkv"
)

// keysPerCaller is how many keys a caller writes in turn.
const keysPerCaller = 64

// printer writes lines that must not mix.
type printer struct{ mu sync.Mutex }

func (p *printer) line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Printf(format+"\n", args...)
}

// member is a member in a process of its own. It loads itself from its start on
// and tells of each call, "call <caller> <number> <begin> <end> <error>". It answers each
// command on its standard input with lines that end with "answer ...":
//
//	status    role, leader, applied index
//	shutdown  Shutdown, and the end
//	stop      ends the load
//	dump      all items, by a linearizable scan: "item <key> <number>"
func member(o *options) error {
	cfg := replkv.Config{Dir: o.dir, ID: o.id, InsecurePeers: true, ElectionTimeout: o.election}
	for pair := range strings.SplitSeq(o.table, ",") {
		id, addr, _ := strings.Cut(pair, "=")
		cfg.InitialCluster = append(cfg.InitialCluster, replkv.Member{ID: id, Addr: addr})
		if id == o.id {
			cfg.Addr, cfg.Listen = addr, addr
		}
	}
	if o.logs {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})).With("member", o.id)
	}
	db, err := replkv.Open(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := db.Ready(ctx); err != nil {
		return err
	}
	var out printer
	out.line("ready")
	var stop atomic.Bool
	var callers sync.WaitGroup
	for i := range o.callers {
		callers.Go(func() { caller(db, o, i, &stop, &out) })
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		switch in.Text() {
		case "status":
			s := db.Status()
			leader := s.LeaderID
			if leader == "" {
				leader = "-"
			}
			out.line("answer %s %s %d", s.Role, leader, s.AppliedIndex)
		case "shutdown":
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			err := db.Shutdown(ctx)
			cancel()
			callers.Wait()
			out.line("answer %v", err)
			return nil
		case "stop":
			stop.Store(true)
			callers.Wait()
			out.line("answer ok")
		case "dump":
			dump(db, &out)
		}
	}
	return db.Close() // the parent is gone
}

// caller writes one key after the other, until the store closes. The number in a
// value rises with each call, over all starts of the member.
func caller(db *replkv.DB, o *options, n int, stop *atomic.Bool, out *printer) {
	value := make([]byte, max(8, o.value))
	for number := o.generation << 32; !stop.Load() && db.Err() == nil; number++ {
		binary.BigEndian.PutUint64(value, number)
		began := time.Now()
		_, err := db.Set(context.Background(), key(o.id, n, number), value)
		ended, text := time.Now(), "ok"
		if err != nil {
			text = fmt.Sprintf("%v: %v", replkv.OutcomeOf(err), err)
		}
		out.line("call %d %d %d %d %s", n, number, began.UnixNano(), ended.UnixNano(), text)
	}
}

func key(id string, caller int, number uint64) string {
	return fmt.Sprintf("%s-%d-%02d", id, caller, number%keysPerCaller)
}

func dump(db *replkv.DB, out *printer) {
	hash := sha256.New()
	for item, err := range db.Scan(context.Background(), replkv.All()) {
		if err != nil {
			out.line("answer error: %v", err)
			return
		}
		fmt.Fprintln(hash, item.Key, item.Value, item.CreateRevision, item.ModRevision, item.Version)
		out.line("item %s %d", item.Key, binary.BigEndian.Uint64(item.Value))
	}
	out.line("answer %s", hex.EncodeToString(hash.Sum(nil)))
}
