package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/replkv/replkv"
)

// demonstrate shows what a replicated store is for. An answer that is not the
// promised one ends it with an error.
func demonstrate(ctx context.Context, c *cluster, out io.Writer) error {
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	leader, err := ready(ctx, c, say)
	if err != nil {
		return err
	}
	if err := basics(ctx, c, leader, say); err != nil {
		return err
	}
	last, err := withoutLeader(ctx, c, leader, say)
	if err != nil {
		return err
	}
	return comeback(ctx, c, leader, last, say)
}

type sayer func(format string, args ...any)

func ready(ctx context.Context, c *cluster, say sayer) (leader int, err error) {
	for i, db := range c.dbs {
		if err := db.Ready(ctx); err != nil {
			return 0, err
		}
		say("member %s at %s, data in %s", c.table[i].ID, c.table[i].Addr, filepath.Join(c.dir, c.table[i].ID))
	}
	if leader = c.leader(0); leader < 0 {
		return 0, errors.New("there was a leader, but it is gone; try again")
	}
	say("all three are ready, %s leads", c.table[leader].ID)
	return leader, nil
}

// basics uses all members: any of them takes writes and reads.
func basics(ctx context.Context, c *cluster, leader int, say sayer) error {
	one, other := (leader+1)%size, (leader+2)%size
	rev, err := c.dbs[one].Set(ctx, "username", []byte("admin"))
	if err != nil {
		return err
	}
	say("set username=admin through follower %s: revision %d", c.table[one].ID, rev)
	if err := expect(ctx, c.dbs[other], "username", "admin"); err != nil {
		return err
	}
	say("get username through follower %s: admin", c.table[other].ID)
	if _, err := c.dbs[leader].Delete(ctx, "username"); err != nil {
		return err
	}
	if _, err := c.dbs[one].Get(ctx, "username"); !errors.Is(err, replkv.ErrNotFound) {
		return fmt.Errorf("a deleted key was found: %v", err)
	}
	say("delete username through the leader; get through %s: not found", c.table[one].ID)
	_, err = c.dbs[one].Set(ctx, "city", []byte("Potsdam"))
	return err
}

// withoutLeader kills the leader and returns the revision of a write that it
// does not see.
func withoutLeader(ctx context.Context, c *cluster, leader int, say sayer) (replkv.Revision, error) {
	survivor := (leader + 1) % size
	if err := c.kill(leader); err != nil {
		return 0, err
	}
	say("killed the leader, %s", c.table[leader].ID)
	began := time.Now()
	rev, err := c.dbs[survivor].Set(ctx, "without-a-leader", []byte("written"))
	if err != nil {
		return 0, err
	}
	say("set through %s, after %.1f s: revision %d, the new leader is %s", c.table[survivor].ID, time.Since(began).Seconds(), rev, c.dbs[survivor].Status().LeaderID)
	if err := expect(ctx, c.dbs[survivor], "city", "Potsdam"); err != nil {
		return 0, err
	}
	say("city, written before: still Potsdam")
	return rev, nil
}

// comeback reopens the killed member and reads from its own disk.
func comeback(ctx context.Context, c *cluster, killed int, last replkv.Revision, say sayer) error {
	if err := c.revive(killed); err != nil {
		return err
	}
	db := c.dbs[killed]
	if err := expect(ctx, db, "without-a-leader", "written", replkv.AtLeast(last)); err != nil {
		return err
	}
	say("reopened %s: it has caught up to revision %d, with what was written while it was away", c.table[killed].ID, db.Status().Revision)
	return nil
}

func expect(ctx context.Context, db *replkv.DB, key, want string, opts ...replkv.GetOption) error {
	item, err := db.Get(ctx, key, opts...)
	if err != nil {
		return err
	}
	if string(item.Value) != want {
		return fmt.Errorf("%s is %q, want %q", key, item.Value, want)
	}
	return nil
}
