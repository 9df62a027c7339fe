package client

import (
	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/kv"
)

// Between the terms of package kv and those of the protocol.

// readToProto passes senseless options on as they are: the server refuses them.
func readToProto(o *kv.ReadOptions) *replkvv1.ReadOptions {
	if *o == (kv.ReadOptions{}) {
		return nil
	}
	return &replkvv1.ReadOptions{Local: o.Local, AtLeast: int64(o.AtLeast), Revision: int64(o.Revision),
		MaxStalenessMs: o.MaxStaleness.Milliseconds()} // rounded towards the stricter; below 1 ms: linearizable
}

// rangeToProto validates r: the protocol has no zero Range.
func rangeToProto(r kv.Range) (*replkvv1.Range, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	from, to, open := r.Bounds()
	if open {
		to = ""
	}
	return &replkvv1.Range{From: []byte(from), To: []byte(to), Open: open}, checkSize(len(from) + len(to))
}

func conditionToProto(conditional bool, rev kv.Revision) *replkvv1.Condition {
	if !conditional {
		return nil
	}
	return &replkvv1.Condition{IfRevision: int64(rev)}
}

// itemFromProto takes the item's memory over. An empty value is empty, and nil
// only if it was not asked for.
func itemFromProto(it *replkvv1.Item, keysOnly bool) kv.Item {
	value := it.GetValue()
	if value == nil && !keysOnly {
		value = []byte{}
	}
	return kv.Item{
		Key:            string(it.GetKey()),
		Value:          value,
		CreateRevision: kv.Revision(it.GetCreateRevision()),
		ModRevision:    kv.Revision(it.GetModRevision()),
		Version:        it.GetVersion(),
		Lease:          kv.LeaseID(it.GetLease()),
	}
}

func deleteResult(res *replkvv1.WriteResult) kv.DeleteResult {
	out := kv.DeleteResult{Deleted: res.GetDeleted(), Revision: kv.Revision(res.GetRevision())}
	for _, it := range res.GetPrev() {
		out.Prev = append(out.Prev, itemFromProto(it, false))
	}
	return out
}
