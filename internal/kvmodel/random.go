package kvmodel

import (
	"fmt"
	"math/rand/v2"

	"github.com/replkv/replkv/kv"
)

// Keys are prefixes of each other and hold zeros and the length byte of the row
// suffix: what a careless encoding confuses.
var Keys = []string{"a", "a\x00", "a\x00\x00", "ab", "b", "b\x09", "\x00", "\x00\x00", "\x09", "\xff", "\xff\xff",
	"b\x00\x00\x00\x00\x00\x00\x00\x01\x09", "key-1", "key-2", "key-3", "key", "k"}

// RandomKey returns one of Keys.
func RandomKey(rng *rand.Rand) string { return Keys[rng.IntN(len(Keys))] }

// RandomRange is of one key more often than not.
func RandomRange(rng *rand.Rand) kv.Range {
	a, b := RandomKey(rng), RandomKey(rng)
	switch n := rng.IntN(10); {
	case n < 6:
		return kv.Key(a)
	case n == 6:
		return kv.From(a)
	}
	return kv.Between(min(a, b), max(a, b))
}

// RandomTxn returns a transaction whose comparisons hold on m now and then, and which
// is valid more often than not. depth is 1.
func RandomTxn(rng *rand.Rand, m *Model, depth int) *kv.Txn {
	t := &kv.Txn{}
	for range rng.IntN(3) {
		c := kv.Compare{Range: RandomRange(rng), Target: kv.Target(1 + rng.IntN(6)), Is: kv.Relation(1 + rng.IntN(4)), Number: rng.Int64N(4)}
		key, _, _ := c.Range.Bounds()
		if it, ok := m.At(key, m.Rev); ok && rng.IntN(2) == 0 { // else too few hold
			c.Value = it.Value
			switch c.Target {
			case kv.TargetVersion:
				c.Number = it.Version
			case kv.TargetCreateRevision:
				c.Number = int64(it.CreateRevision)
			case kv.TargetModRevision:
				c.Number = int64(it.ModRevision)
			}
		}
		if c.Target == kv.TargetUnchanged {
			c.Is, c.Number = kv.Equal, max(1, int64(m.Rev)-rng.Int64N(8))
		}
		t.If = append(t.If, c)
	}
	t.Then, t.Else = randomBranch(rng, m, depth), randomBranch(rng, m, depth)
	return t
}

func randomBranch(rng *rand.Rand, m *Model, depth int) (ops []kv.Op) {
	for range rng.IntN(4) {
		r := RandomRange(rng)
		key, _, _ := r.Bounds()
		var op kv.Op
		switch n := rng.IntN(10); {
		case n < 5:
			op = kv.SetOp(key, fmt.Appendf(nil, "t%d", rng.IntN(1000)))
			op.ReturnPrev = rng.IntN(3) == 0
			if rng.IntN(4) == 0 {
				op.Lease = RandomLease(rng)
			}
		case n < 7:
			op = kv.GetOp(r)
			op.Limit, op.Reverse, op.KeysOnly, op.CountOnly = rng.IntN(3), rng.IntN(2) == 0, rng.IntN(4) == 0, rng.IntN(4) == 0
		case n < 9 || depth == 3:
			op = kv.DeleteOp(r)
			op.ReturnPrev = rng.IntN(2) == 0
		default:
			op = kv.TxnOp(*RandomTxn(rng, m, depth+1))
		}
		ops = append(ops, op)
	}
	return ops
}

// RandomLease is 1 to 4, whether there is such a lease or not.
func RandomLease(rng *rand.Rand) kv.LeaseID { return kv.LeaseID(1 + rng.IntN(4)) }
