package main

// Once, whatever is lost on the way.
var ofSessions = []mutant{
	{
		name: "a batch that is proposed again is applied again",
		file: "store/session.go",
		old:  "if stored, ok := s.results[b.Seq]; ok {",
		new:  "if stored, ok := s.results[b.Seq]; ok && b.Seq == 0 {",
		by:   trial{profile: "partitions", why: twice},
	},
	{
		name: "the result of a batch is not kept",
		file: "store/session.go",
		old:  "s.results[b.Seq] = enc\n",
		new:  "",
		by:   trial{profile: "partitions", why: twice + "|" + differ},
	},
	{
		name: "the result of a batch is not in the state that is snapshotted",
		file: "store/session.go",
		old:  "if err := a.batch.Set(sessionResultKey(b.Session, b.Seq), enc, nil); err != nil {",
		new:  "if err := error(nil); err != nil {",
		by:   trial{profile: "crashes and partitions", why: twice + "|" + differ},
	},
	{
		name: "the low-water mark passes a batch without an answer",
		file: "writer.go",
		old:  "low = min(low, seq-1)",
		new:  "low = min(low, seq)",
		by:   trial{pkg: ".", run: "^TestSlowBatchHoldsWindow$", why: `the writes ended|the window was never reached`},
	},
	{
		name: "a write of unknown outcome is sent again with a new number",
		file: "forward.go",
		old:  "maybe = maybe || !a.notDone\n",
		new:  "if !a.notDone {\n\t\t\treturn nil, false, errSessionLost\n\t\t}\n",
		by:   trial{profile: "partitions", why: twice},
	},
	{
		name: "a remote write of unknown outcome is sent again with a new number",
		file: "client/batch.go",
		old:  "again := lost && e.Outcome == kv.OutcomeNotDone\n",
		new:  "again := lost && e.Outcome == kv.OutcomeNotDone || e.Outcome == kv.OutcomeUnknown\n",
		by:   trial{pkg: "client", run: "^TestAWriteInDoubtIsSentAgain$|^TestARefusalDoesNotEndADoubt$|^TestExactlyOnce$", why: `overloaded; \d+ calls|a final refusal after a doubt|ModRevision:\d+ Version:\d+`},
	},
	{
		name: "a later attempt that was refused makes an unknown outcome one not done",
		file: "forward.go",
		old:  "maybe = maybe || !a.notDone\n",
		new:  "maybe = !a.notDone\n",
		by:   trial{pkg: "replkvtest", run: "^TestARefusalDoesNotEndADoubt$", why: `the outcome of what was done`},
	},
}

// What transactions promise of each other.
var ofTransactions = []mutant{
	{
		name: "an Update forgets the keys that it has read",
		file: "kv/tx.go",
		old:  "out.If = append(out.If, Unchanged(Key(key), t.Revision()))",
		new:  "_ = key",
		by:   trial{why: stale},
	},
	{
		name: "an Update forgets the ranges that it has read",
		file: "kv/tx.go",
		old:  "out.If = append(out.If, Unchanged(r, t.Revision()))",
		new:  "_ = r",
		by:   trial{why: stale},
	},
	{
		name: "a conditional Set ignores its condition if the table of recent rows knows the key",
		file: "store/write.go",
		old:  "if !conditionHolds(&h, op.IfRevision) {",
		new:  "if h.known && !conditionHolds(&h, op.IfRevision) {",
		by:   trial{why: `the condition did not hold|not linearizable`},
	},
	{
		name: "a comparison of revisions ignores uncommitted rows of its entry",
		file: "store/txn.go",
		old:  "if o.rev > since {",
		new:  "if o.rev > since && o.rev == 0 {",
		by:   trial{pkg: "store", run: "^TestGrouping$|^TestMetamorphic$|^TestUnchanged", why: `got |states differ|differ|Get\(|want`},
	},
	{
		name: "a DeleteRange overlooks a key",
		file: "store/write.go",
		old:  "\t\tbytes += uint64(len(key))\n\t\tkeys = append(keys, slices.Clone(key))\n",
		new:  "\t\tif bytes += uint64(len(key)); len(keys) == 2 {\n\t\t\treturn true, nil\n\t\t}\n\t\tkeys = append(keys, slices.Clone(key))\n",
		by:   trial{why: `revision \d+ leaves`},
	},
	{
		name: "a transaction that fails at its last step leaves its writes",
		file: "store/txn.go",
		old:  "a.over.cut(staged)",
		new:  "a.over.cut(len(a.over.rows))",
		by:   trial{pkg: "store", run: "^TestTxnTooLarge$|^TestMetamorphic$", why: `entry \d+ batch \d+:`},
	},
}
