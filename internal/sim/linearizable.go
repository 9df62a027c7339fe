package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/replkv/replkv"
)

// register is the state of a key in the model: what it holds, and since when. A write
// of unknown outcome has a revision if somebody has read its value, else none that a
// condition can name.
type register struct {
	value   string
	rev     replkv.Revision
	version int64 // 0: absent
}

// registerModel is a register with conditional writes. known has the revisions of
// values that were read.
func registerModel(known map[string]replkv.Revision) porcupine.Model {
	put := func(s register, o *Op, rev replkv.Revision) register {
		return register{value: o.Puts[o.Key], rev: rev, version: s.version + 1}
	}
	return porcupine.Model{
		Partition: func(h []porcupine.Operation) (out [][]porcupine.Operation) {
			by := map[string]int{}
			for _, o := range h {
				key := o.Input.(*Op).Key
				i, ok := by[key]
				if !ok {
					i = len(out)
					by[key], out = i, append(out, nil)
				}
				out[i] = append(out[i], o)
			}
			return out
		},
		Init: func() any { return register{} },
		Step: func(state, in, _ any) (bool, any) {
			s, o := state.(register), in.(*Op)
			holds := !o.Conditional || s.rev == o.If
			unknown := o.Outcome == replkv.OutcomeUnknown || errors.Is(o.Err, replkv.ErrResultDropped)
			switch o.Kind {
			case kindGet:
				it := o.Read[o.Key]
				return string(it.Value) == s.value && it.ModRevision == s.rev && it.Version == s.version, s
			case kindSet, kindSetIf:
				switch {
				case errors.Is(o.Err, replkv.ErrConflict):
					return !holds, s
				case unknown && !holds:
					return true, s
				case unknown:
					rev, ok := known[o.Puts[o.Key]]
					if !ok {
						rev = -1 // not that of an absent key
					}
					return true, put(s, o, rev)
				}
				return holds && o.Revision > s.rev, put(s, o, o.Revision)
			default: // kindDelete, kindDelIf
				switch {
				case errors.Is(o.Err, replkv.ErrConflict):
					return !holds, s
				case unknown && !holds:
					return true, s
				case unknown:
					return true, register{}
				}
				return holds && (o.Deleted == 1) == (s.version > 0), register{}
			}
		},
		DescribeOperation: func(in, _ any) string { return in.(*Op).String() },
		DescribeState: func(s any) string {
			x := s.(register)
			return fmt.Sprintf("%.30q at %d, version %d", x.value, x.rev, x.version)
		},
	}
}

// checkerPatience is how long a history is checked, in real time: it takes milliseconds.
const checkerPatience = time.Minute

// linearizable are the operations that the model knows, of those that may have had an
// effect or told something.
func linearizable(ops []*Op) (out []porcupine.Operation) {
	for _, o := range ops {
		conflict := o.Conditional && errors.Is(o.Err, replkv.ErrConflict)
		failed := o.Outcome == replkv.OutcomeNotDone && !conflict || o.Kind == kindGet && o.Err != nil
		if !failed {
			out = append(out, porcupine.Operation{ClientId: o.Client, Input: o, Call: o.Call, Return: o.Return})
		}
	}
	return out
}

// checkLinearizable has porcupine look for an order of all that happened to each
// register.
func (registers) check(r *run) {
	ops := r.hist.of(kindGet, kindSet, kindSetIf, kindDelete, kindDelIf)
	known := map[string]replkv.Revision{}
	for _, o := range ops {
		for _, it := range o.Read {
			known[string(it.Value)] = it.ModRevision
		}
	}
	h, model := linearizable(ops), registerModel(known)
	r.cover.add(countHistories, registerKeys)
	switch result := porcupine.CheckOperationsTimeout(model, h, checkerPatience); result {
	case porcupine.Illegal:
		_, info := porcupine.CheckOperationsVerbose(model, h, checkerPatience)
		r.fail("the registers are not linearizable: %s", r.picture(model, info))
	case porcupine.Unknown:
		r.cover.add(countUndecided, registerKeys)
		r.fail("whether the registers are linearizable is not decided within %v", checkerPatience)
	}
}
