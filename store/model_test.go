package store

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/internal/kvmodel"
	"github.com/replkv/replkv/kv"
)

// model is what the store must be equal to, and the answers of operations.
type model struct {
	kvmodel.Model
	leases map[uint64]modelLease
}

func newModel() *model {
	m := &model{Model: kvmodel.New(), leases: map[uint64]modelLease{}}
	m.LeaseKeys = modelLeaseKeys
	return m
}

// as is m as it stood at a revision; it shares the history.
func (m *model) as(rev, compacted kv.Revision) *model {
	c := *m
	c.Rev, c.Compacted = rev, compacted
	return &c
}

type modelLease struct{ generation, ttl, remaining uint64 }

// modelLeaseKeys is the setting of the model: more keys than this may not hang on a
// lease.
const modelLeaseKeys = 3

func (m *model) mayAttach(op *command.Op) command.OpStatus {
	if op.Lease == 0 {
		return command.OK
	}
	if _, ok := m.leases[op.Lease]; !ok {
		return command.LeaseNotFound
	}
	on := m.On(kv.LeaseID(op.Lease))
	if len(on) >= modelLeaseKeys && !slices.ContainsFunc(on, func(it kv.Item) bool { return it.Key == string(op.Key) }) {
		return command.TooLarge
	}
	return command.OK
}

// applyLease applies an operation on a lease, as part of an entry.
func (m *model) applyLease(op *command.Op, index, term uint64) command.OpResult {
	res := command.OpResult{Status: command.OK}
	l, there := m.leases[op.Lease]
	switch {
	case op.Kind == command.Grant && there:
		res.Status = command.Exists
	case op.Kind == command.Grant:
		m.leases[op.Lease], m.Leases[kv.LeaseID(op.Lease)] = modelLease{index, op.TTL, op.TTL}, true
	case op.Term != 0 && op.Term != term:
		res.Status = command.Stale
	case !there:
		res.Status = command.LeaseNotFound
	case op.Term != 0 && op.Generation != l.generation:
		res.Status = command.Stale
	case op.Kind == command.Renew && op.TTL > l.ttl:
		res.Status = command.Invalid
	case op.Kind == command.Renew:
		l.remaining = op.TTL
		m.leases[op.Lease] = l
	default:
		delete(m.leases, op.Lease)
		res.Deleted = uint64(m.Revoke(kv.LeaseID(op.Lease)))
	}
	res.Revision = uint64(m.Rev)
	return res
}

func (m *model) holds(op *command.Op) bool {
	it, ok := m.At(string(op.Key), m.Rev)
	return !op.Conditional || op.IfRevision == 0 && !ok || ok && uint64(it.ModRevision) == op.IfRevision
}

func (m *model) apply(op *command.Op) command.OpResult {
	res := command.OpResult{Status: command.OK}
	key := string(op.Key)
	switch op.Kind {
	case command.Set:
		if !m.holds(op) {
			res.Status = command.Conflict
			break
		}
		if res.Status = m.mayAttach(op); res.Status != command.OK {
			break
		}
		m.Rev++
		m.Put(key, op.Value, kv.LeaseID(op.Lease))
	case command.Delete, command.DeleteRange:
		if !m.holds(op) {
			res.Status = command.Conflict
			break
		}
		r := kv.Key(key)
		if op.Kind == command.DeleteRange {
			if r = kv.Between(key, string(op.To)); op.Open {
				r = kv.From(key)
			}
		}
		items := m.Scan(r, m.Rev, false)
		if op.MaxKeys > 0 && uint64(len(items)) > op.MaxKeys {
			res.Status = command.TooLarge
			break
		}
		if len(items) > 0 {
			m.Rev++
		}
		res.Deleted = uint64(len(items))
		for _, it := range items {
			m.Remove(it.Key)
			if op.ReturnPrev {
				res.Prev = append(res.Prev, command.PrevItem{Key: []byte(it.Key), Value: it.Value,
					Create: uint64(it.CreateRevision), Mod: uint64(it.ModRevision), Version: uint64(it.Version), Lease: uint64(it.Lease)})
			}
		}
	case command.Txn:
		res = m.txn(op.Txn)
	case command.Compact:
		switch rev := kv.Revision(op.Revision); {
		case rev <= m.Compacted:
			res.Status = command.Compacted
		case rev > m.Rev:
			res.Status = command.Future
		default:
			m.Compacted = rev
		}
	}
	res.Revision = uint64(m.Rev)
	return res
}

var keysPool = kvmodel.Keys

func randomOp(rng *rand.Rand, m *model) *command.Op {
	key := func() []byte { return []byte(keysPool[rng.IntN(len(keysPool))]) }
	rev := func() uint64 {
		if it, ok := m.At(string(key()), m.Rev); ok && rng.IntN(2) == 0 {
			return uint64(it.ModRevision)
		}
		return uint64(rng.IntN(int(m.Rev) + 1))
	}
	op := &command.Op{Key: key()}
	switch n := rng.IntN(100); {
	case n < 20:
		op.Kind, op.Key, op.Txn = command.Txn, nil, kvmodel.RandomTxn(rng, &m.Model, 1)
	case n < 45:
		op.Kind = command.Set
	case n < 60:
		op.Kind, op.Conditional = command.Set, true
		if rng.IntN(2) == 0 {
			if it, ok := m.At(string(op.Key), m.Rev); ok {
				op.IfRevision = uint64(it.ModRevision)
			}
		} else {
			op.IfRevision = rev()
		}
	case n < 80:
		op.Kind, op.ReturnPrev = command.Delete, rng.IntN(2) == 0
		if rng.IntN(3) == 0 {
			op.Conditional, op.IfRevision = true, rev()
		}
	case n < 95:
		op.Kind, op.ReturnPrev = command.DeleteRange, rng.IntN(2) == 0
		op.To = key()
		if string(op.Key) > string(op.To) {
			op.Key, op.To = op.To, op.Key
		}
		if op.Open = rng.IntN(8) == 0; op.Open {
			op.To = nil
		}
		op.MaxKeys = uint64(rng.IntN(6))
	default:
		op.Kind, op.Key = command.Compact, nil
		op.Revision = uint64(rng.IntN(int(m.Rev) + 2))
	}
	if op.Kind == command.Set && rng.IntN(3) == 0 {
		op.Lease = randomLease(rng)
	}
	if op.Kind == command.Set {
		op.Value = fmt.Appendf(nil, "v%d", rng.IntN(1000))
		if rng.IntN(10) == 0 {
			op.Value = nil
		}
	}
	return op
}

func randomLease(rng *rand.Rand) uint64 { return uint64(kvmodel.RandomLease(rng)) }

// randomLeaseOp is one on a lease: a user's, or of a leader of the right or the
// wrong term, about the right or the wrong generation.
func randomLeaseOp(rng *rand.Rand, m *model, term uint64) *command.Op {
	op := &command.Op{Lease: randomLease(rng)}
	l := m.leases[op.Lease]
	switch n := rng.IntN(10); {
	case n < 5:
		op.Kind, op.TTL = command.Grant, uint64(1000+rng.IntN(3000))
	case n < 7:
		op.Kind = command.Revoke
	case n < 8:
		op.Kind = command.Revoke
		op.Term, op.Generation = term-min(term-1, uint64(rng.IntN(2))), l.generation-min(l.generation, uint64(rng.IntN(2)))
	default:
		op.Kind, op.TTL = command.Renew, uint64(rng.IntN(4500))
		op.Term, op.Generation = term-min(term-1, uint64(rng.IntN(2))), l.generation-min(l.generation, uint64(rng.IntN(2)))
	}
	return op
}

var testSession = command.SessionID{1, 2, 3}

func encodeBatch(session command.SessionID, seq, low uint64, ops ...*command.Op) []byte {
	b := command.AppendBatchHeader(nil, session, seq, low, len(ops))
	for _, op := range ops {
		b = command.AppendOp(b, op)
	}
	return b
}

func encodeEntry(index uint64, batches ...[]byte) Entry {
	return Entry{Index: index, Term: 1 + index/100, Data: command.AppendEnvelope(nil,
		command.Envelope{TimeMillis: index * 10, Batches: batches})}
}

func openSessionEntry(index uint64) Entry {
	return encodeEntry(index, encodeBatch(command.NoSession, 0, 0,
		&command.Op{Kind: command.OpenSession, Session: testSession, Member: []byte("m"), Ordinal: 1, Starts: testStarts}))
}

func equalResult(got, want *command.BatchResult) bool {
	return string(command.AppendResult(nil, got)) == string(command.AppendResult(nil, want))
}

func equalItems(a, b []kv.Item) bool {
	return slices.EqualFunc(a, b, func(x, y kv.Item) bool { return sameItem(x, y) })
}

func sameItem(x, y kv.Item) bool {
	return x.Key == y.Key && string(x.Value) == string(y.Value) && x.CreateRevision == y.CreateRevision &&
		x.ModRevision == y.ModRevision && x.Version == y.Version && x.Lease == y.Lease
}

// script is a random history with the model's answers.
type script struct {
	entries []Entry
	want    [][]*command.BatchResult
	models  []*model                // after each entry; they share the history
	leases  []map[uint64]modelLease // after each entry
}

func randomScript(rng *rand.Rand, entries int) *script {
	m := newModel()
	s := &script{}
	ok := command.OpResult{Status: command.OK, Revision: 1}
	s.entries = append(s.entries, openSessionEntry(1),
		encodeEntry(2, encodeBatch(command.NoSession, 0, 0, &command.Op{Kind: command.Setting, ID: SettingLeaseKeys, Number: modelLeaseKeys})))
	for range s.entries {
		s.want = append(s.want, []*command.BatchResult{{Status: command.Applied, Ops: []command.OpResult{ok}}})
		s.models = append(s.models, newModel())
		s.leases = append(s.leases, nil)
	}
	seq, low := uint64(0), uint64(0)
	var lastRaw []byte
	var lastWant *command.BatchResult
	for range entries {
		index := uint64(len(s.entries)) + 1
		term := encodeEntry(index).Term
		var raws [][]byte
		var wants []*command.BatchResult
		for range 1 + rng.IntN(3) {
			if lastRaw != nil && rng.IntN(8) == 0 { // a retry: same answer, no effect
				raws, wants = append(raws, lastRaw), append(wants, lastWant)
				continue
			}
			seq++
			low = max(low, seq-min(seq, uint64(1+rng.IntN(20))))
			res := &command.BatchResult{Status: command.Applied}
			var ops []*command.Op
			for range rng.IntN(6) {
				if rng.IntN(4) == 0 {
					op := randomLeaseOp(rng, m, term)
					ops = append(ops, op)
					res.Ops = append(res.Ops, m.applyLease(op, index, term))
					continue
				}
				op := randomOp(rng, m)
				ops = append(ops, op)
				res.Ops = append(res.Ops, m.apply(op))
			}
			lastRaw, lastWant = encodeBatch(testSession, seq, low, ops...), res
			raws, wants = append(raws, lastRaw), append(wants, res)
		}
		s.entries = append(s.entries, encodeEntry(index, raws...))
		s.leases = append(s.leases, maps.Clone(m.leases))
		s.want = append(s.want, wants)
		s.models = append(s.models, m.as(m.Rev, m.Compacted))
	}
	return s
}

// TestMetamorphic runs a random history under random groupings of entries,
// with compactions, sweeps, settlings, reopenings, crashes and moves to
// another store by checkpoint in between, and demands the model's answers.
func TestMetamorphic(t *testing.T) {
	seeds := 40
	if testing.Short() {
		seeds = 4
	}
	base := rand.Uint64()
	for i := range seeds {
		seed := uint64(i) // fixed seeds first, then fresh ones
		if i >= seeds/2 {
			seed = base + uint64(i)
		}
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 1))
			s := randomScript(rng, 150)
			runMetamorphic(t, rng, s)
		})
	}
}

// TestGrouping applies one history whole, and one entry at a time, and demands
// the same chain and data.
func TestGrouping(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	s := randomScript(rng, 300)
	whole := openMem(t, vfs.NewMem())
	single := openMem(t, vfs.NewMem())
	if _, err := whole.Apply(s.entries); err != nil {
		t.Fatal(err)
	}
	for i := range s.entries {
		if _, err := single.Apply(s.entries[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if whole.State() != single.State() {
		t.Fatalf("states differ:\n%+v\n%+v", whole.State(), single.State())
	}
}

func openMem(t *testing.T, fs vfs.FS) *Store {
	t.Helper()
	s, err := Open("state", Options{FS: fs, MemTableBytes: 256 << 10, CacheBytes: 1 << 20,
		OnFatal: func(err error) { t.Errorf("fatal: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func runMetamorphic(t *testing.T, rng *rand.Rand, sc *script) {
	runHistory(t, rng, sc, func(s *Store, m *model) { checkReads(t, rng, s, m) })
}

// runHistory applies the script in pieces, disturbs the store in between, and
// has it checked.
func runHistory(t *testing.T, rng *rand.Rand, sc *script, check func(s *Store, m *model)) {
	fs := vfs.NewCrashableMem()
	s := openMem(t, fs)
	durable := uint64(0)
	for next := 0; next < len(sc.entries); {
		n := min(1+rng.IntN(12), len(sc.entries)-next)
		got, err := s.Apply(sc.entries[next : next+n])
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range got {
			for j, b := range r.Batches {
				if !equalResult(b, sc.want[next+i][j]) {
					t.Fatalf("entry %d batch %d:\n got %+v\nwant %+v", next+i, j, b, sc.want[next+i][j])
				}
			}
		}
		next += n
		checkLeases(t, s, sc.leases[next-1])
		m := sc.models[next-1]
		check(s, m)
		switch rng.IntN(8) {
		case 0:
			if err := s.Sweep(); err != nil {
				t.Fatal(err)
			}
			if n := superseded(t, s); n > 0 {
				t.Fatalf("%d rows are superseded after a sweep", n)
			}
			check(s, m)
		case 1:
			if durable, err = s.Flush(); err != nil || durable != s.State().Index {
				t.Fatalf("flush: %d, %v; applied %d", durable, err, s.State().Index)
			}
		case 2:
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = openMem(t, fs)
			durable = s.State().Index
			if int(durable) != next {
				t.Fatalf("after Close the applied index is %d, want %d", durable, next)
			}
		case 3: // crash: lose what was not synced, replay from there
			fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
			s.Close()
			s = openMem(t, fs)
			at := s.State().Index
			if at < durable || at > uint64(next) {
				t.Fatalf("after a crash the applied index is %d; durable was %d, applied %d", at, durable, next)
			}
			durable, next = at, int(at)
			if next > 0 {
				checkLeases(t, s, sc.leases[next-1])
			}
		case 4:
			s = moveByCheckpoint(t, s, &fs)
			durable = s.State().Index
			check(s, m)
		case 5:
			for _, k := range keysPool {
				if err := s.janitor.settleKey(k); err != nil {
					t.Fatal(err)
				}
			}
			check(s, m)
		}
	}
}

// moveByCheckpoint streams s into a fresh store on another file system.
func moveByCheckpoint(t *testing.T, s *Store, fs **vfs.MemFS) *Store {
	t.Helper()
	c, err := s.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	*fs = vfs.NewCrashableMem()
	to := openMem(t, *fs)
	r := c.Reader([16]byte{9})
	counted := &countingReader{r: r}
	in, err := to.Receive(counted)
	if err != nil {
		t.Fatal(err)
	}
	if counted.n != c.Size([16]byte{9}) {
		t.Fatalf("stream of %d bytes, Size said %d", counted.n, c.Size([16]byte{9}))
	}
	if err := to.Install(in); err != nil {
		t.Fatal(err)
	}
	if to.State() != s.State() {
		t.Fatalf("installed %+v, want %+v", to.State(), s.State())
	}
	if err := errors.Join(r.Close(), c.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	return to
}

type countingReader struct {
	r interface{ Read([]byte) (int, error) }
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// checkLeases compares what readers are told of leases, and that no hint is left of
// those that have ended.
func checkLeases(t *testing.T, s *Store, want map[uint64]modelLease) {
	t.Helper()
	got := s.Leases()
	if len(got) != len(want) || s.LeaseCount() != len(want) {
		t.Fatalf("leases %+v, want %+v", got, want)
	}
	for _, l := range got {
		w := want[uint64(l.ID)]
		if l.Generation != w.generation || l.TTL != millis(w.ttl) || l.Remaining != millis(w.remaining) {
			t.Fatalf("lease %+v, want %+v", l, w)
		}
	}
	hints, bytes := map[kv.LeaseID]uint64{}, map[kv.LeaseID]uint64{}
	e, err := s.acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer e.release()
	for id := range kv.LeaseID(6) {
		if err := eachHint(e.db, id, func(key string) { hints[id]++; bytes[id] += uint64(len(key)) }); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range got {
		if l.Hints != hints[l.ID] || l.HintBytes != bytes[l.ID] || l.Hints > modelLeaseKeys {
			t.Fatalf("lease %+v has %d hints, %d bytes", l, hints[l.ID], bytes[l.ID])
		}
		delete(hints, l.ID)
	}
	if len(hints) > 0 {
		t.Fatalf("hints of leases that have ended: %v", hints)
	}
}

func checkReads(t *testing.T, rng *rand.Rand, s *Store, m *model) {
	t.Helper()
	for range 4 {
		key := keysPool[rng.IntN(len(keysPool))]
		want, ok := m.At(key, m.Rev)
		got, err := s.Get(key, 0)
		if ok != (err == nil) || err != nil && !errors.Is(err, kv.ErrNotFound) || ok && !sameItem(got, want) {
			t.Fatalf("Get(%q) at %d = %+v, %v; want %+v, %v", key, m.Rev, got, err, want, ok)
		}
		rev := kv.Revision(1 + rng.IntN(int(m.Rev)))
		got, err = s.Get(key, rev)
		want, ok = m.At(key, rev)
		if rev < m.Compacted {
			if !errors.Is(err, kv.ErrCompacted) {
				t.Fatalf("Get(%q) at compacted %d: %v", key, rev, err)
			}
		} else if ok != (err == nil) || ok && !sameItem(got, want) {
			t.Fatalf("Get(%q) at %d = %+v, %v; want %+v, %v (compacted %d)", key, rev, got, err, want, ok, m.Compacted)
		}
	}
	from, to := keysPool[rng.IntN(len(keysPool))], keysPool[rng.IntN(len(keysPool))]
	if from > to {
		from, to = to, from
	}
	r := kv.Between(from, to)
	if rng.IntN(3) == 0 {
		r = kv.From(from)
	}
	rev := max(m.Compacted, kv.Revision(1+rng.IntN(int(m.Rev))), 1)
	p := Page{Revision: rev, Reverse: rng.IntN(2) == 0, Limit: rng.IntN(4)}
	got, _, more, err := s.Scan(r, p)
	want := m.Scan(r, rev, p.Reverse)
	wantMore := p.Limit > 0 && len(want) > p.Limit
	if wantMore {
		want = want[:p.Limit]
	}
	if err != nil || !equalItems(got, want) || more != wantMore {
		t.Fatalf("Scan(%v, %+v) =\n%+v, more %v, %v; want\n%+v, more %v", r, p, got, more, err, want, wantMore)
	}
}
