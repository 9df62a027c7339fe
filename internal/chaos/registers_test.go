//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/replkv/replkv/kv"
)

// registers is single keys that are read, set, deleted and compared with, each
// value written by one operation only. porcupine looks for an order.
type registers struct {
	r     *round
	began time.Time

	mu      sync.Mutex // protects the fields below
	history map[string][]porcupine.Operation
	written map[string]kv.Revision // the revision of each value, as any answer has told it
}

const registerKeys = 6

type registerInput struct {
	op    string // "get", "set", "delete", "cas"
	old   string // cas: "" is absent
	value string
}

// registerOutput is what was answered; the zero value stands for no answer.
type registerOutput struct {
	known bool
	value string // get
	ok    bool   // cas
}

var registerModel = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		s, in, out := state.(string), input.(registerInput), output.(registerOutput)
		switch in.op {
		case "get":
			return out.value == s, s
		case "set":
			return true, in.value
		case "delete":
			return true, ""
		}
		if s != in.old {
			return !out.known || !out.ok, s
		}
		return !out.known || out.ok, in.value
	},
	Equal:             func(a, b any) bool { return a == b },
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
}

func newRegisters(r *round) *registers {
	return &registers{r: r, began: time.Now(), history: map[string][]porcupine.Operation{}, written: map[string]kv.Revision{}}
}

func (g *registers) now() int64 { return int64(time.Since(g.began)) }

func (g *registers) work(ctx context.Context, rng *rand.Rand, worker int) {
	seen := map[string]string{} // what this worker read last
	for n := 0; ctx.Err() == nil; n++ {
		key := fmt.Sprintf("%sreg/%d", g.r.prefix, rng.IntN(registerKeys))
		value := fmt.Sprintf("%d.%d", worker, n)
		s := g.r.anyKV(rng)
		switch p := rng.IntN(100); {
		case p < 45:
			seen[key] = g.get(ctx, rng, s, worker, key)
		case p < 75:
			g.set(ctx, rng, s, worker, key, value)
		case p < 80:
			g.delete(ctx, rng, s, worker, key)
		default:
			g.cas(ctx, rng, s, worker, key, seen[key], value)
		}
		pause4(ctx, rng)
	}
}

// note adds an operation to the history. One that was not done is none; one of
// unknown outcome may be done at any time from now on.
func (g *registers) note(worker int, key string, call int64, in registerInput, out registerOutput, err error) {
	o := porcupine.Operation{ClientId: worker, Input: in, Call: call, Output: out, Return: g.now()}
	switch {
	case err == nil:
	case in.op != "get" && kv.OutcomeOf(err) == kv.OutcomeUnknown:
		o.Output, o.Return = registerOutput{}, math.MaxInt64
	default:
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.history[key] = append(g.history[key], o)
}

// at notes that a value was written at a revision, which all answers must agree on.
func (g *registers) at(key, value string, rev kv.Revision) {
	g.mu.Lock()
	defer g.mu.Unlock()
	id := key + "=" + value
	if old := g.written[id]; old != 0 && old != rev {
		g.r.l.violation("%s was written at revision %d, and at %d", id, old, rev)
	}
	g.written[id] = rev
}

func (g *registers) get(ctx context.Context, rng *rand.Rand, s kv.KV, worker int, key string) string {
	ctx, cancel := someTime(ctx, rng)
	defer cancel()
	call := g.now()
	item, err := s.Get(ctx, key)
	g.r.read(err)
	if errors.Is(err, kv.ErrNotFound) {
		err = nil
	} else if err == nil {
		g.at(key, string(item.Value), item.ModRevision)
	}
	g.note(worker, key, call, registerInput{op: "get"}, registerOutput{known: true, value: string(item.Value)}, err)
	return string(item.Value)
}

func (g *registers) set(ctx context.Context, rng *rand.Rand, s kv.KV, worker int, key, value string) {
	ctx, cancel := someTime(ctx, rng)
	defer cancel()
	call := g.now()
	rev, err := s.Set(ctx, key, []byte(value))
	g.r.write(err)
	if err == nil {
		g.at(key, value, rev)
	}
	g.note(worker, key, call, registerInput{op: "set", value: value}, registerOutput{known: true}, err)
}

func (g *registers) delete(ctx context.Context, rng *rand.Rand, s kv.KV, worker int, key string) {
	ctx, cancel := someTime(ctx, rng)
	defer cancel()
	call := g.now()
	_, err := s.Delete(ctx, key)
	g.r.write(err)
	g.note(worker, key, call, registerInput{op: "delete"}, registerOutput{known: true}, err)
}

// cas is a Txn, or where the key should be absent a conditional Set.
func (g *registers) cas(ctx context.Context, rng *rand.Rand, s kv.KV, worker int, key, old, value string) {
	ctx, cancel := someTime(ctx, rng)
	defer cancel()
	call := g.now()
	out := registerOutput{known: true, ok: true}
	var err error
	if old == "" {
		if _, err = s.Set(ctx, key, []byte(value), kv.IfAbsent()); errors.Is(err, kv.ErrConflict) {
			out.ok, err = false, nil
		}
	} else {
		var res kv.TxnResult
		res, err = s.Txn(ctx, kv.Txn{If: []kv.Compare{kv.ValueIs(key, []byte(old))}, Then: []kv.Op{kv.SetOp(key, []byte(value))}})
		out.ok = res.Succeeded
	}
	g.r.write(err)
	g.note(worker, key, call, registerInput{op: "cas", old: old, value: value}, out, err)
}

// check reads each key through each member once more, and asks porcupine.
func (g *registers) check(ctx context.Context, _ *record) {
	for k := range registerKeys {
		key := fmt.Sprintf("%sreg/%d", g.r.prefix, k)
		for i, n := range g.r.l.nodes {
			g.get(ctx, rand.New(rand.NewPCG(0, 0)), n.kv, 100+i, key)
		}
		g.r.histories++
		switch porcupine.CheckOperationsTimeout(registerModel, g.history[key], 20*time.Second) {
		case porcupine.Illegal:
			g.r.l.violation("%s is not linearizable: %d operations", key, len(g.history[key]))
			g.r.l.picture(key, g.history[key])
		case porcupine.Unknown:
			g.r.undecided++
		}
	}
}
