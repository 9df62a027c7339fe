package main

// A lease lives as long as was promised, and ends.
var ofLeases = []mutant{
	{
		name: "an old leader's decision ends a lease",
		file: "store/lease_apply.go",
		old:  "case op.Term != 0 && op.Term != a.st.CommandTerm:",
		new:  "case op.Term != 0 && op.Term > a.st.CommandTerm:",
		by:   trial{pkg: "store", run: "^TestLateDecisions$", why: `status \d+, want \d+|refused decisions made`},
	},
	{
		name: "a decision ends another lease of that id",
		file: "store/lease_apply.go",
		old:  "case op.Term != 0 && op.Generation != l.Generation:",
		new:  "case op.Term != 0 && op.Generation > l.Generation:",
		by:   trial{pkg: "store", run: "^TestLateDecisions$", why: `status \d+, want \d+|refused decisions made`},
	},
	{
		name: "a new leader gives a lease half of what was left",
		file: "internal/lease/lessor.go",
		old:  "deadline: now.Add(x.Remaining)",
		new:  "deadline: now.Add(x.Remaining / 2)",
		by:   trial{profile: "crashes", why: `is gone .* before its time`},
	},
	{
		name: "a keep-alive is answered before the log knows of it",
		file: "internal/lease/lessor.go",
		old:  "if e.logged == e.TTL {",
		new:  "if e.logged > 0 {",
		by:   trial{pkg: "internal/lease", run: "^TestTellsTheLog$|^TestKeepAliveWhileTheLogIsTold$|^TestFailedRound$|^TestResetThenTold$", why: `answered`},
	},
	{
		name: "a keep-alive is answered by a leader that was deposed",
		file: "lessor.go",
		old:  "b, err := db.reads.join(ctx, limit)\n\tif err != nil {\n\t\treturn nil, err\n\t}\n\task",
		new:  "b, err := &readBatch{readAnswer: readAnswer{term: db.raft.CurrentTerm(), index: db.raft.CommitIndex()}}, error(nil)\n\tif err != nil {\n\t\treturn nil, err\n\t}\n\task",
		by:   trial{pkg: "replkvtest", run: "^TestCutLeaderKeepsNothingAlive$", why: `KeepAliveOnce: <nil>`},
	},
	{
		name: "the keys of an expired lease stay",
		file: "store/hint.go",
		old:  "if h.live() && h.row.lease == uint64(l.ID) {",
		new:  "if h.live() && h.row.lease == uint64(l.ID) && len(attached) > 0 {",
		by:   trial{why: `keys of leases that nobody keeps alive are left`},
	},
	{
		name: "the end of a lease takes keys that do not hang on it any more",
		file: "store/hint.go",
		old:  "if h.live() && h.row.lease == uint64(l.ID) {",
		new:  "if h.live() {",
		by:   trial{pkg: "store", run: "^TestLeaseInOneEntry$|^TestMetamorphic$", why: `revoke:|keys|Get\(|Scan\(|got`},
	},
}

// One holder at a time, and tokens that rise.
var ofLocks = []mutant{
	{
		name: "the token of a lock does not rise",
		file: "concurrency/place.go",
		old:  "return Token(p.owner.Load())",
		new:  "return Token(p.owner.Load() - p.owner.Load() + 1)",
		by:   trial{why: `token \d+ from|token \d+ after|resource=\d+ was written at`},
	},
	{
		name: "the owner of a lock is not compared",
		file: "concurrency/place.go",
		old:  "Target: kv.TargetCreateRevision, Is: kv.Equal, Number: p.owner.Load()}",
		new:  "Target: kv.TargetCreateRevision, Is: kv.Greater, Number: 0}",
		by:   trial{pkg: "concurrency", run: "^TestMutex$", why: `a guarded transaction: true`},
	},
	{
		name: "a lock is taken beside its holder",
		file: "concurrency/place.go",
		old:  "if err == nil && ahead == \"\" {\n\t\t\treturn nil",
		new:  "if err == nil && (ahead == \"\" || rev%5 == 0) {\n\t\t\treturn nil",
		by:   trial{why: `token \d+ from|token \d+ after`},
	},
	{
		name: "who may have entered a queue and gave up leaves the entry",
		file: "concurrency/place.go",
		old:  "p.doubt = p.doubt || kv.OutcomeOf(err) != kv.OutcomeNotDone",
		new:  "p.doubt = false",
		by:   trial{pkg: "concurrency", run: "^TestLateEntry$", why: `an entry was done after the [Ll]ock was given up`},
	},
}
