package replkv

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/transport"
	"github.com/replkv/replkv/transport/peerpb"
)

var _ kv.Cluster = (*DB)(nil)

// Members returns the table of members, linearizably.
func (db *DB) Members(ctx context.Context) (Membership, error) {
	return db.changeMembers(ctx, "Members", &peerpb.ChangeRequest{Kind: peerpb.ChangeKind_CHANGE_MEMBERS}, nil)
}

// AddNonvoter adds a member that receives the data and counts for no quorum. It
// need not run yet; start it with Config.Join. ErrConflict if the id or the
// address is taken, or the member is, or becomes, a voter.
func (db *DB) AddNonvoter(ctx context.Context, id, addr string, opts ...MemberOption) (Membership, error) {
	return db.changeMembers(ctx, "AddNonvoter", &peerpb.ChangeRequest{Kind: peerpb.ChangeKind_CHANGE_ADD_NONVOTER, Id: id, Addr: addr}, opts)
}

// AddVoter adds a member, which must run (with Config.Join) and be reached, and
// makes it a voter once it has caught up, for which it waits. If ctx ends
// before, the member stays a non-voter, and becomes a voter later: the outcome of
// whatever fails once it is in the table is unknown.
func (db *DB) AddVoter(ctx context.Context, id, addr string, opts ...MemberOption) (Membership, error) {
	return db.changeMembers(ctx, "AddVoter", &peerpb.ChangeRequest{Kind: peerpb.ChangeKind_CHANGE_ADD_VOTER, Id: id, Addr: addr}, opts)
}

// Promote makes a non-voter a voter once it has caught up, for which it waits;
// ErrUnsafeChange, with what it lacks, if ctx ends before.
func (db *DB) Promote(ctx context.Context, id string, opts ...MemberOption) (Membership, error) {
	return db.changeMembers(ctx, "Promote", &peerpb.ChangeRequest{Kind: peerpb.ChangeKind_CHANGE_PROMOTE, Id: id}, opts)
}

// Remove takes a member out for good: it stops with ErrRemoved once it learns of
// it, and its directory is never accepted again; a new directory may join under
// its id. A leader hands over first. ErrUnsafeChange if the voters that remain
// and are reached would be no majority.
func (db *DB) Remove(ctx context.Context, id string, opts ...MemberOption) (Membership, error) {
	m, err := db.changeMembers(ctx, "Remove", &peerpb.ChangeRequest{Kind: peerpb.ChangeKind_CHANGE_REMOVE, Id: id}, opts)
	if err != nil && id == db.cfg.ID && errors.Is(db.Err(), ErrRemoved) {
		return m, nil // it has learned so before the answer came
	}
	return m, err
}

// TransferLeadership makes the voter of that id lead; "": any other voter that
// is up to date. It returns once another member leads. Writes under way are
// retried, not lost. After an error once it is under way, also ErrUnsafeChange, the
// outcome is unknown: the other may lead yet.
func (db *DB) TransferLeadership(ctx context.Context, to string) error {
	_, err := db.changeMembers(ctx, "TransferLeadership", &peerpb.ChangeRequest{Kind: peerpb.ChangeKind_CHANGE_TRANSFER, Id: to}, nil)
	return err
}

// changeMembers has the leader, whoever it is, make a change. Changes are
// idempotent, so what failed or got lost is asked again until ctx ends; a
// conditional one only if it certainly was not done.
func (db *DB) changeMembers(ctx context.Context, op string, req *peerpb.ChangeRequest, opts []MemberOption) (Membership, error) {
	o := kv.MemberOptionsOf(opts)
	req.Conditional, req.IfIndex = o.Conditional, o.IfIndex
	if err := db.checkChange(req); err != nil {
		return Membership{}, db.callError(op, OutcomeNotDone, err)
	}
	ctx, cancel := db.deadline(ctx)
	defer cancel()
	asked := "" // by an earlier attempt that may have been heard
	for maybe := false; ; {
		reign := db.leads.current()
		leader, _, _ := db.leader()
		if toAny := req.Kind == peerpb.ChangeKind_CHANGE_TRANSFER && req.Id == ""; toAny && asked != "" && leader != "" && leader != asked {
			return Membership{}, nil // to ask the next leader would have it hand over, too
		}
		m, err := db.changeOnce(ctx, reign, req)
		if err == nil {
			return m, nil
		}
		if maybe && req.Kind == peerpb.ChangeKind_CHANGE_REMOVE && errors.Is(err, ErrMemberNotFound) {
			return db.changeOnce(ctx, reign, &peerpb.ChangeRequest{Kind: peerpb.ChangeKind_CHANGE_MEMBERS}) // an earlier attempt did it
		}
		if kv.OutcomeOf(err) != OutcomeNotDone {
			maybe, asked = true, leader
		}
		outcome := OutcomeNotDone
		if maybe {
			outcome = OutcomeUnknown
		}
		switch {
		case db.ctx.Err() != nil:
			return m, db.callError(op, outcome, db.stopped())
		case ctx.Err() != nil:
			return m, db.callError(op, outcome, ctxError(ctx, err))
		case maybe && req.Conditional:
			return m, db.callError(op, OutcomeUnknown, err)
		case !retriable(err):
			return m, db.callError(op, outcome, err)
		}
		pause(ctx, reign.Done())
	}
}

// retriable tells the errors of a change after which another try, perhaps at
// another leader, may succeed.
func retriable(err error) bool {
	for _, final := range []error{ErrInvalidArgument, ErrConflict, ErrMemberNotFound, ErrUnsafeChange, ErrRemoved, ErrStaleIdentity, ErrWrongCluster} {
		if errors.Is(err, final) {
			return false
		}
	}
	return true
}

func (db *DB) checkChange(req *peerpb.ChangeRequest) error {
	if req.Join != nil {
		return nil // join looks at it
	}
	switch req.Kind {
	case peerpb.ChangeKind_CHANGE_MEMBERS:
		return nil
	case peerpb.ChangeKind_CHANGE_TRANSFER:
		if req.Id == "" {
			return nil
		}
	case peerpb.ChangeKind_CHANGE_ADD_NONVOTER, peerpb.ChangeKind_CHANGE_ADD_VOTER:
		if db.cfg.Addr == "" {
			return fmt.Errorf("%w: no member could reach a store without Addr", ErrInvalidConfig)
		}
		if err := checkAddr(req.Addr); err != nil {
			return fmt.Errorf("%w: address %q is not host:port that members can dial", ErrInvalidArgument, req.Addr)
		}
	}
	if !validID.MatchString(req.Id) {
		return fmt.Errorf("%w: member id %q is not 1 to 63 of [a-z0-9.-]", ErrInvalidArgument, req.Id)
	}
	return nil
}

// changeOnce asks whoever leads now.
func (db *DB) changeOnce(ctx, reign context.Context, req *peerpb.ChangeRequest) (Membership, error) {
	id, addr, self := db.leader()
	switch {
	case self:
		return db.members.change(ctx, req)
	case id == "":
		return Membership{}, db.wrap("", OutcomeNotDone, ErrNoLeader)
	}
	ctx, cancel := during(ctx, reign)
	defer cancel()
	resp, err := db.trans.Change(ctx, id, addr, req)
	db.reached(id, nonCtx(ctx, err))
	if why := transport.RefusedAs(err); why != nil {
		// It does not take us for what we are, or is not whom we meant. What was
		// asked is not decided.
		return Membership{}, db.wrap("", OutcomeNotDone, fmt.Errorf("%w: %s at %s refuses %s: %v", ErrNoLeader, id, addr, db.cfg.ID, why))
	}
	if err != nil {
		return Membership{}, err
	}
	return membershipOf(resp), nil
}

// nonCtx hides an error that is our own giving up.
func nonCtx(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Canceled
	}
	return err
}

func membershipOf(m *peerpb.ChangeResponse) Membership {
	out := Membership{Index: m.GetIndex()}
	for _, x := range m.GetMembers() {
		out.Members = append(out.Members, Member{ID: x.GetId(), Addr: x.GetAddr(), Nonvoter: x.GetNonvoter()})
	}
	return out
}

// peerMembers is the inverse of membershipOf.
func peerMembers(m Membership) (out []*peerpb.Member) {
	for _, x := range m.Members {
		out = append(out, &peerpb.Member{Id: x.ID, Addr: x.Addr, Nonvoter: x.Nonvoter})
	}
	return out
}

// members makes changes while this member leads, one at a time.
type members struct {
	db *DB
	mu chan struct{} // capacity 1: held by the change under way
}

func newMembers(db *DB) *members { return &members{db: db, mu: make(chan struct{}, 1)} }

// notYet is why a change has to wait, such as for a member to catch up.
type notYet struct{ why string }

func (e notYet) Error() string { return e.why }

// change serves a request that reached the leader. It gives up a little before
// ctx ends, so that the asker hears why.
func (m *members) change(ctx context.Context, req *peerpb.ChangeRequest) (Membership, error) {
	var patience <-chan time.Time
	if end, ok := ctx.Deadline(); ok {
		t := time.NewTimer(time.Until(end) - m.db.cfg.ElectionTimeout/4)
		defer t.Stop()
		patience = t.C
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	conditional := req.GetConditional()
	begun := false // an earlier step has made it a member that becomes a voter
	for {
		table, err := m.step(ctx, req, conditional)
		wait, isWait := errors.AsType[notYet](err)
		if !isWait {
			return table, m.since(begun, err)
		}
		begun = req.GetKind() == peerpb.ChangeKind_CHANGE_ADD_VOTER
		conditional = false // what it asked about held when the change began
		select {
		case <-tick.C:
		case <-patience:
			return table, m.since(begun, m.not(fmt.Errorf("%w: not yet: %s", ErrUnsafeChange, wait.why)))
		case <-ctx.Done():
			return table, m.since(begun, m.not(context.Cause(ctx)))
		case <-m.db.ctx.Done():
			return table, m.since(begun, m.not(ErrClosed))
		}
	}
}

// since makes the error of a step that of its change: if something is done already, it
// is not "not done" any more.
func (m *members) since(begun bool, err error) error {
	if begun && err != nil && kv.OutcomeOf(err) == OutcomeNotDone {
		return m.outcome(OutcomeUnknown, err)
	}
	return err
}

// outcome returns err with another outcome.
func (m *members) outcome(o Outcome, err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		err = e.Err
	}
	return m.db.wrap("", o, err)
}

// step does what can be done now.
func (m *members) step(ctx context.Context, req *peerpb.ChangeRequest, conditional bool) (Membership, error) {
	if req.Join != nil {
		return m.join(ctx, req.Join)
	}
	if err := m.lock(ctx); err != nil {
		return Membership{}, err
	}
	defer m.unlock()
	table, err := m.table(ctx)
	if err != nil {
		return Membership{}, m.not(err)
	}
	if conditional && req.GetIfIndex() != table.Index {
		return table, m.not(fmt.Errorf("%w: the table of members is at index %d, not %d", ErrConflict, table.Index, req.GetIfIndex()))
	}
	switch req.GetKind() {
	case peerpb.ChangeKind_CHANGE_MEMBERS:
		return table, nil
	case peerpb.ChangeKind_CHANGE_ADD_NONVOTER:
		return m.add(ctx, table, req.GetId(), req.GetAddr(), nil, false)
	case peerpb.ChangeKind_CHANGE_ADD_VOTER:
		return m.addVoter(ctx, table, req.GetId(), req.GetAddr())
	case peerpb.ChangeKind_CHANGE_PROMOTE:
		return m.promote(ctx, table, req.GetId())
	case peerpb.ChangeKind_CHANGE_REMOVE:
		return m.remove(ctx, table, req.GetId())
	case peerpb.ChangeKind_CHANGE_TRANSFER:
		return table, m.transfer(ctx, table, req.GetId())
	}
	return table, m.not(fmt.Errorf("%w: change of kind %v", ErrInvalidArgument, req.GetKind()))
}

// lock waits for the change under way.
func (m *members) lock(ctx context.Context) error {
	select {
	case m.mu <- struct{}{}:
		return nil
	case <-ctx.Done():
		return m.not(context.Cause(ctx))
	case <-m.db.ctx.Done():
		return m.not(ErrClosed)
	}
}

func (m *members) unlock() { <-m.mu }

// not makes the error of a change of which nothing was done.
func (m *members) not(err error) error { return m.db.wrap("", OutcomeNotDone, err) }

// table returns the committed table as of now. Its index is that of the entry:
// raft's own GetConfiguration().Index() is always 0.
func (m *members) table(ctx context.Context) (Membership, error) {
	if m.db.raft.State() != raft.Leader {
		return Membership{}, ErrNoLeader
	}
	if err := m.db.reads.barrier(ctx, m.db.ctx); err != nil {
		return Membership{}, err
	}
	return m.db.membership()
}

// membership is the newest table applied here.
func (db *DB) membership() (Membership, error) {
	data, index := db.state.Config()
	out := Membership{Index: index}
	if index == 0 {
		return out, nil
	}
	c, err := decodeConfiguration(data)
	out.Members = membersOf(c)
	return out, err
}

func membersOf(c raft.Configuration) (out []Member) {
	for _, s := range c.Servers {
		out = append(out, Member{ID: string(s.ID), Addr: string(s.Address), Nonvoter: s.Suffrage != raft.Voter})
	}
	return out
}

// propose makes raft append a configuration that follows table, and waits until
// it is applied here.
func (m *members) propose(ctx context.Context, change func() raft.IndexFuture) (Membership, error) {
	m.db.entries.fly(1) // teardown waits for the answer: raft forgets futures when it stops
	future := change()
	done := make(chan error, 1)
	go func() {
		defer m.db.entries.fly(-1)
		done <- future.Error()
	}()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		return Membership{}, m.db.wrap("", OutcomeUnknown, context.Cause(ctx))
	case <-m.db.ctx.Done():
		return Membership{}, m.db.wrap("", OutcomeUnknown, ErrClosed)
	}
	switch {
	case err == nil:
	case definitelyNotDone(err):
		return Membership{}, m.not(ErrNoLeader)
	case strings.Contains(err.Error(), "configuration changed since"):
		return Membership{}, m.not(ErrNoLeader) // another leader's change: look again
	default:
		return Membership{}, m.db.wrap("", OutcomeUnknown, err)
	}
	if err := m.db.applied.wait(ctx, m.db.ctx, future.Index()); err != nil {
		return Membership{}, m.db.wrap("", OutcomeUnknown, err)
	}
	return m.db.membership()
}

// admit has the state machine expect a directory under an id. Without an
// incarnation: whichever comes first.
func (m *members) admit(ctx context.Context, id string, incarnation []byte, fresh, promote bool) error {
	op := &command.Op{Kind: command.Admit, Member: []byte(id), Promote: promote, Fresh: fresh}
	if incarnation != nil && copy(op.Incarnation[:], incarnation) != len(op.Incarnation) {
		return m.not(fmt.Errorf("%w: incarnation of %d bytes", ErrInvalidArgument, len(incarnation)))
	}
	a := m.db.entries.submit(ctx, unsessioned(op))
	switch {
	case a.err != nil && a.notDone:
		return m.not(a.err)
	case a.err != nil:
		return m.db.wrap("", OutcomeUnknown, a.err)
	}
	switch a.result.Ops[0].Status {
	case command.OK:
		return nil
	case command.OtherIdentity:
		return m.not(fmt.Errorf("%w: %s is known with another directory; if that one is lost, remove %s from the cluster first", ErrStaleIdentity, id, id))
	}
	return m.not(fmt.Errorf("%w: member %s was not admitted", ErrInvalidArgument, id))
}

// add adds a non-voter, unless it is there.
func (m *members) add(ctx context.Context, table Membership, id, addr string, incarnation []byte, promote bool) (Membership, error) {
	for _, x := range table.Members {
		switch {
		case x.ID == id && x.Addr == addr && (promote || x.Nonvoter && !m.toBeVoter(id)):
			return table, nil
		case x.ID == id && x.Addr == addr:
			return table, m.not(fmt.Errorf("%w: %s is, or becomes, a voter", ErrConflict, id))
		case x.ID == id:
			return table, m.not(fmt.Errorf("%w: %s is a member at %s; restarted with another address it tells so itself", ErrConflict, id, x.Addr))
		case x.Addr == addr:
			return table, m.not(fmt.Errorf("%w: %s is the address of %s", ErrConflict, addr, x.ID))
		}
	}
	if err := m.admit(ctx, id, incarnation, true, promote); err != nil {
		return table, err
	}
	return m.propose(ctx, func() raft.IndexFuture {
		return m.db.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(addr), table.Index, enqueueTimeout)
	})
}

// toBeVoter says whether a member that does not vote will be promoted without being
// asked for again.
func (m *members) toBeVoter(id string) bool {
	known, _ := m.db.state.Member(id)
	return known.Promote
}

// addVoter adds a non-voter that will be a voter, and waits for that.
func (m *members) addVoter(ctx context.Context, table Membership, id, addr string) (Membership, error) {
	if x, in := table.Find(id); in && x.Addr == addr && !x.Nonvoter {
		return table, nil
	} else if !in {
		hctx, cancel := context.WithTimeout(ctx, m.db.cfg.ElectionTimeout)
		who, _, err := m.db.trans.Hello(hctx, addr)
		cancel()
		switch {
		case err != nil:
			return table, m.not(fmt.Errorf("%w: %s is not reached at %s: %v", ErrUnsafeChange, id, addr, err))
		case who.From != id:
			return table, m.not(fmt.Errorf("%w: at %s is %q, not %q", ErrUnsafeChange, addr, who.From, id))
		case who.Cluster != [16]byte{} && who.Cluster != m.db.cluster():
			return table, m.not(fmt.Errorf("%w: %s at %s", ErrWrongCluster, id, addr))
		}
		if table, err = m.add(ctx, table, id, addr, who.Incarnation[:], true); err != nil {
			return table, err
		}
	} else if x.Addr != addr {
		return m.add(ctx, table, id, addr, nil, true) // says what is wrong
	} else if !m.toBeVoter(id) {
		if err := m.admit(ctx, id, nil, false, true); err != nil {
			return table, err
		}
	}
	table, err := m.promote(ctx, table, id)
	if _, isWait := errors.AsType[notYet](err); isWait {
		return table, err
	}
	return table, m.since(true, err) // whatever comes of this, it becomes a voter later
}

// join lets a directory in that asks for itself.
func (m *members) join(ctx context.Context, req *peerpb.JoinRequest) (Membership, error) {
	if !validID.MatchString(req.GetId()) || checkAddr(req.GetAddr()) != nil || len(req.GetIncarnation()) != 16 {
		return Membership{}, m.not(fmt.Errorf("%w: join of %q at %q", ErrInvalidArgument, req.GetId(), req.GetAddr()))
	}
	if err := m.lock(ctx); err != nil {
		return Membership{}, err
	}
	defer m.unlock()
	table, err := m.table(ctx)
	if err != nil {
		return table, m.not(err)
	}
	if _, in := table.Find(req.GetId()); !in {
		return m.add(ctx, table, req.GetId(), req.GetAddr(), req.GetIncarnation(), true)
	}
	// Added by an operator, or by an earlier try.
	if err := m.admit(ctx, req.GetId(), req.GetIncarnation(), false, false); err != nil {
		return table, err
	}
	m.db.peers.foundAt(req.GetId(), req.GetAddr())
	return table, nil
}

// promote makes a non-voter a voter, once it has caught up.
func (m *members) promote(ctx context.Context, table Membership, id string) (Membership, error) {
	x, in := table.Find(id)
	switch {
	case !in:
		return table, m.not(fmt.Errorf("%w: %q", ErrMemberNotFound, id))
	case !x.Nonvoter:
		return table, nil
	}
	if why := m.lacks(id); why != "" {
		return table, notYet{fmt.Sprintf("%s is no voter: %s", id, why)}
	}
	if err := m.keepsQuorum(ctx, table, id, ""); err != nil {
		return table, err
	}
	return m.propose(ctx, func() raft.IndexFuture {
		return m.db.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(x.Addr), table.Index, enqueueTimeout)
	})
}

// lacks returns what a member needs before it may be a voter; "" if nothing: it
// answers, has made itself known, and has been up to date for a while.
func (m *members) lacks(id string) string {
	n, now, timeout := m.db.peers.get(id), time.Now(), m.db.cfg.ElectionTimeout
	last := m.db.raft.LastIndex()
	switch {
	case n.contact.IsZero() || n.err != nil && now.Sub(n.contact) > timeout:
		return fmt.Sprintf("it is not reached: %v", n.err)
	case !m.db.knownStart(id):
		return "it has not made itself known"
	case n.caughtUp.IsZero():
		return fmt.Sprintf("it lacks %d of %d entries", last-min(n.matched, last), last)
	case now.Sub(n.caughtUp) < 2*timeout:
		return "it has caught up, but not long enough ago"
	}
	return ""
}

// remove takes a member out.
func (m *members) remove(ctx context.Context, table Membership, id string) (Membership, error) {
	x, in := table.Find(id)
	if !in {
		return table, m.not(fmt.Errorf("%w: %q", ErrMemberNotFound, id))
	}
	if !x.Nonvoter {
		if err := m.keepsQuorum(ctx, table, "", id); err != nil {
			return table, err
		}
	}
	if id == m.db.cfg.ID {
		// Another leader does it. Who removes itself as leader could not wait for
		// the outcome.
		if err := m.transfer(ctx, table, ""); err != nil {
			return table, m.outcome(OutcomeNotDone, err) // of the removal
		}
		return table, m.not(ErrNoLeader)
	}
	return m.propose(ctx, func() raft.IndexFuture {
		return m.db.raft.RemoveServer(raft.ServerID(id), table.Index, enqueueTimeout)
	})
}

// keepsQuorum refuses a change after which the voters that answer now are no
// majority. The added one must answer in any case.
func (m *members) keepsQuorum(ctx context.Context, table Membership, added, removed string) error {
	var after []Member
	for _, x := range table.Members {
		if x.ID != removed && (!x.Nonvoter || x.ID == added) {
			after = append(after, x)
		}
	}
	if len(after) == 0 {
		return m.not(fmt.Errorf("%w: %s is the last voter", ErrUnsafeChange, removed))
	}
	ctx, cancel := context.WithTimeout(ctx, m.db.cfg.ElectionTimeout)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	down := map[string]error{}
	for _, x := range after {
		if x.ID == m.db.cfg.ID {
			continue
		}
		wg.Go(func() {
			if _, _, err := m.db.trans.Confirm(ctx, x.ID, x.Addr, m.db.raft.CurrentTerm()); err != nil && status.Code(err) != codes.Unimplemented { // that is a plain Jille node
				mu.Lock()
				defer mu.Unlock()
				down[x.ID] = err
			}
		})
	}
	wg.Wait()
	if err := down[added]; added != "" && err != nil {
		return m.not(fmt.Errorf("%w: %s is not reached: %v", ErrUnsafeChange, added, err))
	}
	if up := len(after) - len(down); up <= len(after)/2 {
		return m.not(fmt.Errorf("%w: of the %d voters afterwards only %d would answer: not reached: %v", ErrUnsafeChange, len(after), up, down))
	}
	return nil
}

// transfer makes another voter lead. Once raft has been asked, it may do so whatever
// becomes of the answer: the other may have been told to stand.
func (m *members) transfer(ctx context.Context, table Membership, to string) error {
	if to == m.db.cfg.ID {
		return nil
	}
	x, in := table.Find(to)
	switch {
	case to == "" && table.Voters() < 2:
		return m.not(fmt.Errorf("%w: there is no other voter", ErrUnsafeChange))
	case to != "" && !in:
		return m.not(fmt.Errorf("%w: %q", ErrMemberNotFound, to))
	case to != "" && x.Nonvoter:
		return m.not(fmt.Errorf("%w: %s is not a voter", ErrInvalidArgument, to))
	}
	var future raft.Future
	if to == "" {
		future = m.db.raft.LeadershipTransfer()
	} else {
		future = m.db.raft.LeadershipTransferToServer(raft.ServerID(to), raft.ServerAddress(x.Addr))
	}
	select {
	case err := <-m.db.transferred(future):
		switch {
		case definitelyNotDone(err):
			return m.not(ErrNoLeader) // of the moment
		case err != nil:
			return m.db.wrap("", OutcomeUnknown, fmt.Errorf("%w: leadership was not handed over: %v", ErrUnsafeChange, err))
		}
	case <-ctx.Done():
		return m.db.wrap("", OutcomeUnknown, context.Cause(ctx))
	case <-m.db.ctx.Done():
		return m.db.wrap("", OutcomeUnknown, ErrClosed)
	}
	return m.succeeded(ctx)
}

// succeeded waits until this member knows its successor.
func (m *members) succeeded(ctx context.Context) error {
	for {
		reign := m.db.leads.current()
		if id, _, self := m.db.leader(); id != "" && !self {
			return nil
		}
		select {
		case <-reign.Done():
		case <-ctx.Done():
			return m.db.wrap("", OutcomeUnknown, context.Cause(ctx))
		case <-m.db.ctx.Done():
			return m.db.wrap("", OutcomeUnknown, ErrClosed)
		}
	}
}
