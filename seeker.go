package replkv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/transport"
	"github.com/replkv/replkv/transport/peerpb"
)

// seeker finds the others: a joiner its cluster, a first member the other first
// ones, and whoever hears of no leader the members that have moved. It also asks
// whether this member was removed, since nobody tells a follower.
type seeker struct {
	db   *DB
	lost time.Time // since when no leader is known; zero if one is
}

// run looks around every now and then while something is to be found.
func (s *seeker) run() {
	if s.db.cfg.Addr == "" {
		return
	}
	tick := time.NewTicker(s.db.cfg.ElectionTimeout / 4)
	defer tick.Stop()
	for {
		s.look()
		select {
		case <-s.db.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *seeker) look() {
	if id, _, _ := s.db.leader(); id != "" {
		s.lost = time.Time{}
	} else if s.lost.IsZero() {
		s.lost = time.Now()
	}
	timeout := s.db.cfg.ElectionTimeout
	lost := time.Duration(0)
	if !s.lost.IsZero() {
		lost = time.Since(s.lost)
	}
	switch {
	case !s.db.joined():
		s.join()
		return
	case !s.db.proof.whole.Load():
		greetings := s.hello()
		s.birth(greetings)
		if lost > 3*timeout {
			s.inquire(greetings)
		}
	case lost > 3*timeout:
		s.inquire(s.hello())
	case lost > timeout:
		s.hello()
	}
}

// joined says whether this member belongs to a cluster yet.
func (db *DB) joined() bool {
	db.proof.mu.Lock()
	defer db.proof.mu.Unlock()
	return db.id.cluster != [16]byte{}
}

// addresses are all where members may be.
func (s *seeker) addresses() []string {
	var out []string
	add := func(addr string) {
		if addr != "" && addr != s.db.cfg.Addr && !slices.Contains(out, addr) {
			out = append(out, addr)
		}
	}
	for _, m := range s.db.cfg.InitialCluster {
		add(m.Addr)
	}
	for _, a := range s.db.cfg.Join {
		add(a)
	}
	for _, m := range s.db.configuration().Servers {
		add(string(m.Address))
		a, _ := s.db.peers.resolve(string(m.ID))
		add(a)
	}
	return out
}

// greeting is the answer to a Hello.
type greeting struct {
	addr string
	id   transport.Identity
	resp *peerpb.HelloResponse
}

// hello asks all addresses who is there, and notes where members are.
func (s *seeker) hello() []greeting {
	ctx, cancel := context.WithTimeout(s.db.ctx, s.db.cfg.ElectionTimeout)
	defer cancel()
	var mu sync.Mutex
	var out []greeting
	var wg sync.WaitGroup
	for _, addr := range s.addresses() {
		wg.Go(func() {
			id, resp, err := s.db.trans.Hello(ctx, addr)
			if err != nil {
				s.unanswered(addr, err)
				return
			}
			s.db.peers.forget(addr)
			if id.From == s.db.cfg.ID {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			out = append(out, greeting{addr, id, resp})
		})
	}
	wg.Wait()
	for _, g := range out {
		s.met(g)
	}
	return out
}

// unanswered notes why an address is silent, under the name of who should be
// there.
func (s *seeker) unanswered(addr string, err error) {
	name := addr
	for _, m := range s.db.configuration().Servers {
		if string(m.Address) == addr {
			name = string(m.ID)
		}
	}
	if s.db.ctx.Err() == nil && s.db.peers.get(name).contact.IsZero() { // else raft's own RPCs tell
		s.db.peers.note(name, err)
	}
}

// met takes up what a greeting tells of where members are.
func (s *seeker) met(g greeting) {
	if g.id.Cluster != s.db.cluster() {
		if g.id.Cluster != [16]byte{} {
			s.db.peers.note(g.id.From, fmt.Errorf("%w: %s at %s", ErrWrongCluster, g.id.From, g.addr))
		}
		return
	}
	if err := s.db.checkPeer(g.id); err != nil {
		s.db.peers.note(g.id.From, err)
		return
	}
	for _, m := range g.resp.GetMembers() {
		// Hearsay: only about whom we know nothing better of.
		if _, known := s.db.peers.resolve(m.GetId()); !known && m.GetId() != s.db.cfg.ID && !s.configured(m.GetId(), m.GetAddr()) {
			s.db.peers.foundAt(m.GetId(), m.GetAddr())
		}
	}
}

func (s *seeker) configured(id, addr string) bool {
	for _, m := range s.db.configuration().Servers {
		if string(m.ID) == id {
			return string(m.Address) == addr
		}
	}
	return false
}

func (db *DB) cluster() [16]byte {
	db.proof.mu.Lock()
	defer db.proof.mu.Unlock()
	return db.id.cluster
}

// running says whether this member holds, or once held, more than what its cluster
// began with.
func (db *DB) running() bool {
	db.proof.mu.Lock()
	defer db.proof.mu.Unlock()
	origin := db.id.origin()
	return db.raft.LastIndex() > origin || db.floorIndex > origin || db.id.lost || db.id.since != origin
}

// birth looks whether the cluster is at its very beginning (see proof), or this
// directory, which is new, has come to a wrong place.
func (s *seeker) birth(greetings []greeting) {
	first := s.db.voters()
	isFirst := func(id string) bool {
		return slices.ContainsFunc(first, func(m raft.Server) bool { return string(m.ID) == id })
	}
	fresh, wrong := map[string]bool{}, map[string]bool{}
	elsewhere := false // a cluster that runs, and is not ours
	for _, g := range greetings {
		switch {
		case g.id.Cluster == [16]byte{}: // it has not joined yet
		case g.id.Cluster != s.db.cluster():
			wrong[g.id.From] = true
			elsewhere = elsewhere || g.resp.GetRunning()
		case g.resp.GetRunning():
			// Let it say whether it takes our directory for the right one.
			s.db.ask(g.id.From, g.addr)
		case g.id.From != s.db.cfg.ID && isFirst(g.id.From):
			fresh[g.id.From] = true
		}
	}
	switch {
	case s.db.ctx.Err() != nil || s.db.running() || !isFirst(s.db.cfg.ID):
	case len(fresh)+1 > len(first)/2:
		if err := s.db.proof.born(); err != nil {
			s.db.fatal(err)
		}
	case elsewhere || len(wrong) > len(first)/2:
		s.db.fatal(fmt.Errorf("%w: the members at %v are not those of InitialCluster and ClusterToken of %s: correct them, or join that cluster",
			ErrWrongCluster, s.addresses(), s.db.cfg.ID))
	}
}

// inquire asks the members whether they still take this one for a member. Who
// was removed learns it from the refusal, or from the leader's table.
func (s *seeker) inquire(greetings []greeting) {
	for _, m := range s.db.configuration().Servers {
		if string(m.ID) != s.db.cfg.ID {
			s.db.ask(string(m.ID), string(m.Address))
		}
	}
	ctx, cancel := context.WithTimeout(s.db.ctx, s.db.cfg.ElectionTimeout)
	defer cancel()
	for _, g := range greetings {
		if s.db.ctx.Err() != nil || g.resp.GetLeaderId() == "" || g.id.Cluster != s.db.cluster() {
			continue
		}
		table, err := s.db.trans.Change(ctx, g.resp.GetLeaderId(), g.resp.GetLeaderAddr(), &peerpb.ChangeRequest{Kind: peerpb.ChangeKind_CHANGE_MEMBERS})
		if err != nil {
			continue
		}
		if _, in := membershipOf(table).Find(s.db.cfg.ID); !in {
			s.db.refuseIf(fmt.Errorf("%w: %s is not in the cluster's table", ErrRemoved, s.db.cfg.ID))
		}
		return
	}
}

// join asks the members in Config.Join to let this one in.
func (s *seeker) join() {
	m := &peerpb.JoinRequest{Token: s.db.id.token[:], Id: s.db.cfg.ID, Addr: s.db.cfg.Addr, Incarnation: s.db.id.incarnation[:]}
	for _, addr := range s.db.cfg.Join {
		if addr == s.db.cfg.Addr {
			continue
		}
		// Not for long: the next contact may be better off.
		ctx, cancel := context.WithTimeout(s.db.ctx, max(4*s.db.cfg.ElectionTimeout, 2*time.Second))
		id, resp, err := s.db.trans.Join(ctx, addr, m)
		cancel()
		if err == nil {
			err = s.db.adopt(id, resp)
		}
		switch {
		case err == nil:
			return
		case s.db.ctx.Err() != nil:
			return
		case errors.Is(err, ErrStaleIdentity):
			s.db.refuseIf(err)
			return
		case errors.Is(err, ErrWrongCluster), errors.Is(err, ErrInvalidArgument), errors.Is(err, ErrConflict):
			s.db.fatal(fmt.Errorf("join %s: %w", addr, err))
			return
		}
		s.db.peers.note(addr, err)
	}
}

// adopt makes this member one of the cluster that took it.
func (db *DB) adopt(from transport.Identity, resp *peerpb.JoinResponse) error {
	var cluster [16]byte
	if len(resp.GetCluster()) != len(cluster) {
		return fmt.Errorf("the answer to Join has a cluster id of %d bytes", len(resp.GetCluster()))
	}
	copy(cluster[:], resp.GetCluster())
	db.proof.mu.Lock()
	db.id.cluster, db.id.begun, db.id.since = cluster, true, resp.GetIndex()
	err := db.id.save(&db.cfg)
	db.proof.mu.Unlock()
	if err != nil {
		db.fatal(err)
		return err
	}
	db.trans.SetCluster(cluster, resp.GetIndex())
	for _, m := range resp.GetMembers() {
		if m.GetId() != db.cfg.ID {
			db.peers.foundAt(m.GetId(), m.GetAddr())
		}
	}
	db.log.Info("joined", "through", from.From, "members", len(resp.GetMembers()))
	return nil
}

// knownStart says whether a member has made itself known.
func (db *DB) knownStart(id string) bool {
	m, ok := db.state.Member(id)
	return ok && m.Start != (command.Start{})
}
