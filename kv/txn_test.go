package kv

import (
	"errors"
	"strings"
	"testing"
)

func TestTxnValidate(t *testing.T) {
	set := func(k string) Op { return SetOp(k, nil) }
	nested := func(then, otherwise []Op) Op { return TxnOp(Txn{Then: then, Else: otherwise}) }
	then := func(ops ...Op) Txn { return Txn{Then: ops} }
	when := func(c Compare) Txn { return Txn{If: []Compare{c}} }
	for name, c := range map[string]struct {
		txn  Txn
		says string // "": it is valid
	}{
		"nothing":                           {},
		"put once, else again":              {txn: Txn{Then: []Op{set("a")}, Else: []Op{set("a")}}},
		"put twice":                         {then(set("a"), set("b"), set("a")), `"a" is put twice`},
		"put twice in Else":                 {Txn{Else: []Op{set("a"), set("a")}}, "in Else: "},
		"put within and before":             {then(set("a"), nested([]Op{set("a")}, nil)), `"a" is put twice`},
		"put within and after":              {then(nested(nil, []Op{set("a")}), set("a")), `"a" is put twice`},
		"put in two nested ones":            {then(nested([]Op{set("a")}, nil), nested(nil, []Op{set("a")})), `"a" is put twice`},
		"put in both branches of one":       {txn: then(nested([]Op{set("a")}, []Op{set("a")}))},
		"deleted twice":                     {txn: then(DeleteOp(Key("a")), DeleteOp(All()))},
		"put and deleted":                   {then(set("b"), DeleteOp(Between("a", "c"))), `"b" is put and deleted`},
		"deleted and put":                   {then(DeleteOp(From("b")), set("b")), `"b" is put and deleted`},
		"deleted by the second range":       {then(DeleteOp(Key("a")), DeleteOp(Between("aa", "c")), DeleteOp(Between("ab", "ac")), set("b")), "put and deleted"},
		"deleted up to the key":             {txn: then(DeleteOp(Between("a", "b")), set("b"))},
		"an empty range deletes nothing":    {txn: then(DeleteOp(Between("b", "b")), set("b"))},
		"deleted within, put around":        {then(set("b"), nested(nil, []Op{DeleteOp(All())})), "put and deleted"},
		"read and put":                      {txn: then(GetOp(All()), set("b"), GetOp(Key("b")))},
		"zero range read":                   {then(GetOp(Range{})), "zero Range"},
		"zero range deleted":                {then(DeleteOp(Range{})), "zero Range"},
		"inverted range":                    {then(GetOp(Between("b", "a"))), "inverted"},
		"empty key put":                     {then(set("")), "empty"},
		"empty key read":                    {then(GetOp(Key(""))), "empty"},
		"a range put":                       {then(Op{Kind: OpSet, Range: All()}), "not one key"},
		"negative limit":                    {then(Op{Kind: OpGet, Range: All(), Limit: -1}), "limit"},
		"negative lease":                    {then(Op{Kind: OpSet, Range: Key("a"), Lease: -1}), "lease"},
		"no operation":                      {then(Op{}), "unknown operation 0"},
		"unknown operation":                 {then(Op{Kind: 9, Range: All()}), "unknown operation 9"},
		"nested nothing":                    {then(Op{Kind: OpTxn}), "missing"},
		"compare all":                       {txn: when(Compare{Range: All(), Target: TargetVersion, Is: Greater})},
		"compare nothing":                   {when(Compare{}), "zero Range"},
		"compare the empty key":             {when(Exists("")), "empty"},
		"unknown target":                    {when(Compare{Range: Key("a"), Target: 7, Is: Equal}), "unknown target 7"},
		"no target":                         {when(Compare{Range: Key("a"), Is: Equal}), "unknown target 0"},
		"unknown relation":                  {when(Compare{Range: Key("a"), Target: TargetValue, Is: 5}), "unknown relation 5"},
		"no relation":                       {when(Compare{Range: Key("a"), Target: TargetValue}), "unknown relation 0"},
		"negative number":                   {when(Compare{Range: Key("a"), Target: TargetVersion, Is: Equal, Number: -1}), "-1"},
		"unchanged since nothing":           {when(Unchanged(All(), 0)), "revision 0"},
		"unchanged, but less":               {when(Compare{Range: All(), Target: TargetUnchanged, Is: Less, Number: 3}), "unchanged"},
		"something wrong deep within":       {then(nested([]Op{nested(nil, []Op{set("")})}, nil)), "empty"},
		"a comparison deep within is wrong": {then(TxnOp(when(Compare{}))), "zero Range"},
	} {
		err := c.txn.Validate()
		if c.says == "" && err != nil || c.says != "" && (!errors.Is(err, ErrInvalidArgument) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}
