package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/replkv/replkv"
)

// change runs a change of the table of members in the background; then is called on
// the nemesis's goroutine. One at a time.
func (n *nemesis) change(what string, do func(ctx context.Context) error, then func(error)) {
	n.changing = true
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		err := do(ctx)
		n.changes <- func() {
			n.changing = false
			n.note("%s: %v", what, err)
			then(err)
		}
	}()
}

// table is the table of members, as the member that knows the newest has it.
func (n *nemesis) table() (table []replkv.MemberStatus) {
	newest := uint64(0)
	for _, i := range n.c.Up() {
		if s := n.c.DB(i).Status(); s.MembershipIndex >= newest {
			newest, table = s.MembershipIndex, s.Members
		}
	}
	return table
}

func (n *nemesis) voters() (voters int) {
	for _, m := range n.table() {
		if !m.Nonvoter {
			voters++
		}
	}
	return voters
}

// dispensable says whether the cluster can do without member i for good, and so can
// remove it: the other voters are a majority. Members that do not vote yet do not count:
// one that joins for another may take longer than the nemesis waits for it.
func (n *nemesis) dispensable(i int) bool {
	voters, others := 0, 0
	for _, m := range n.table() {
		if m.Nonvoter {
			continue
		}
		if voters++; m.ID != n.c.Members[i].ID {
			others++
		}
	}
	return others > voters/2
}

// via is a member to ask for a change.
func (n *nemesis) via() (*replkv.DB, bool) {
	up := n.c.Up()
	if len(up) == 0 {
		return nil, false
	}
	return n.c.DB(up[n.rng.IntN(len(up))]), true
}

const maxMembers = 7

// join starts a new member, which becomes a voter once it has caught up.
func (n *nemesis) join() string {
	if n.changing || n.c.In() >= maxMembers || n.voters() >= 5 {
		return ""
	}
	return n.c.Members[n.joins()].ID
}

// joins is join, without conditions.
func (n *nemesis) joins() int {
	i := n.c.Add()
	n.network()
	n.open(i)
	n.change(n.c.Members[i].ID+" joins", func(ctx context.Context) error { return n.becomesVoter(ctx, i) }, func(err error) {
		if err == nil {
			n.r.count(countJoined)
		}
	})
	return i
}

func (n *nemesis) becomesVoter(ctx context.Context, i int) error {
	for ; ; pause(ctx, 200*time.Millisecond) {
		for _, m := range n.c.DB(i).Status().Members {
			if m.ID == n.c.At(i).ID && !m.Nonvoter {
				return nil
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// addNonvoter adds a member that does not vote, and promotes it later, perhaps.
func (n *nemesis) addNonvoter() string {
	db, ok := n.via()
	if !ok || n.changing || n.c.In() >= maxMembers || n.voters() >= 5 {
		return ""
	}
	i := n.c.Add()
	m := n.c.Members[i]
	promote := n.rng.IntN(3) > 0
	n.network()
	n.change("non-voter "+m.ID, func(ctx context.Context) error {
		_, err := db.AddNonvoter(ctx, m.ID, m.Addr)
		return err
	}, func(err error) {
		if err != nil {
			m.Out = true // it may be in the table, without ever running
			n.later(time.Second, "takes "+m.ID+" out again", func() { n.forget(i) })
			return
		}
		n.open(i)
		if promote {
			n.change("promotes "+m.ID, func(ctx context.Context) error {
				pause(ctx, 3*time.Second)
				_, err := db.Promote(ctx, m.ID)
				return err
			}, func(err error) {
				if err == nil {
					n.r.count(countPromoted)
				}
			})
		}
	})
	return m.ID
}

// forget removes a member from the table that never ran, if it is there.
func (n *nemesis) forget(i int) {
	if n.changing {
		n.later(time.Second, "takes "+n.c.Members[i].ID+" out again", func() { n.forget(i) })
		return
	}
	n.change("takes "+n.c.Members[i].ID+" out", func(ctx context.Context) error { return n.removeFor(ctx, i) }, func(error) {})
}

// removeFor asks until member i is not in the table any more.
func (n *nemesis) removeFor(ctx context.Context, i int) (err error) {
	for k := 0; ctx.Err() == nil; k++ {
		db := n.c.DB(k % n.c.Len())
		if db == nil || db.Err() != nil || k%n.c.Len() == i {
			pause(ctx, 50*time.Millisecond)
			continue
		}
		call, cancel := context.WithTimeout(ctx, 4*time.Second)
		_, err = db.Remove(call, n.c.At(i).ID)
		cancel()
		if err == nil || errors.Is(err, replkv.ErrMemberNotFound) {
			return nil
		}
		pause(ctx, 200*time.Millisecond)
	}
	return errors.Join(ctx.Err(), err)
}

// remove takes a member out for good, up or not.
func (n *nemesis) remove() string {
	db, ok := n.via()
	if !ok || n.changing || n.voters() <= 3 {
		return ""
	}
	in := n.others(n.damaged)
	i := in[n.rng.IntN(len(in))]
	m := n.c.Members[i]
	n.change("removes "+m.ID, func(ctx context.Context) error {
		_, err := db.Remove(ctx, m.ID)
		return err
	}, func(err error) {
		if err == nil && !m.Out {
			m.Out = true
			n.r.count(countRemoved)
		}
	})
	return n.name(i)
}

// replace takes a member out whose disk is damaged, and has another join.
func (n *nemesis) replace(i int) {
	if n.changing {
		n.later(time.Second, "", func() { n.replace(i) })
		return
	}
	m := n.c.Members[i]
	if !m.Down { // it is switched off
		n.crashTo(i, n.asIs)
	}
	n.change("replaces "+m.ID, func(ctx context.Context) error { return n.removeFor(ctx, i) }, func(err error) {
		if err != nil {
			n.replace(i)
			return
		}
		m.Out = true
		j := n.c.Add()
		n.network()
		n.open(j)
		n.change(n.c.Members[j].ID+" joins for "+m.ID, func(ctx context.Context) error { return n.becomesVoter(ctx, j) }, func(err error) {
			n.damaged = -1
			if err == nil {
				n.r.count(countReplaced)
			}
		})
	})
}

// transfer hands the leadership over.
func (n *nemesis) transfer() string {
	db, ok := n.via()
	if !ok || n.changing {
		return ""
	}
	to := ""
	if all := n.others(-1); n.rng.IntN(2) == 0 {
		to = n.c.Members[all[n.rng.IntN(len(all))]].ID
	}
	n.change(fmt.Sprintf("transfer to %q", to), func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return db.TransferLeadership(ctx, to)
	}, func(error) {})
	return fmt.Sprintf("to %q", to)
}
