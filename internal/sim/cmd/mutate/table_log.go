package main

// What a member promises its peers: entries and votes on stable storage, and that it
// knows what it had promised.
var ofTheLog = []mutant{
	{
		name: "the raft log is written without a sync",
		file: "store/raftlog/append.go",
		old:  "if err := l.commit(batch, pebble.Sync); err != nil {",
		new:  "if err := l.commit(batch, pebble.NoSync); err != nil {",
		by:   trial{seed: 8, why: gone},
	},
	{
		name: "term and vote are written without a sync",
		file: "store/raftlog/stable.go",
		old:  "return l.commit(batch, pebble.Sync)",
		new:  "return l.commit(batch, pebble.NoSync)",
		by:   trial{pkg: "store/raftlog", run: "^TestCrash$", why: `stable value \d+, acknowledged`},
	},
	{
		name: "the end of the log is deleted without a sync",
		file: "store/raftlog/truncate.go",
		old:  "return l.deleteRows(low, last, pebble.Sync)",
		new:  "return l.deleteRows(low, last, pebble.NoSync)",
		by:   trial{pkg: "store/raftlog", run: "^TestCrash$", why: `log is \d+-\d+, acknowledged`},
	},
	{
		name: "the floor is written without a sync",
		file: "store/raftlog/floor.go",
		old:  "if err := f.mu.file.SyncData(); err != nil {",
		new:  "if err := error(nil); err != nil {",
		by:   trial{pkg: "store/raftlog", run: "^TestFloorCrash$", why: `states were acknowledged`},
	},
	{
		name: "the floor is never written",
		file: "store/raftlog/keeper.go",
		old:  "if s := change(old); s != old {",
		new:  "if s := change(old); s != old && s.Term > s.Term {",
		by:   trial{pkg: "store/raftlog", run: "^TestFloorNoticesLostEnd$", why: `CheckFloor = ""`},
	},
}

// What a snapshot must hold, and what may be deleted after it.
var ofSnapshots = []mutant{
	{
		name: "the log is truncated before the state is flushed",
		file: "snapshot.go",
		old:  "durable, err := f.db.state.Flush()",
		new:  "durable, err := s.meta.Index, error(nil)",
		by:   trial{seed: 14, why: `the entries between are gone`},
	},
	{
		name: "the log that a fed follower needs next is deleted",
		file: "store/raftlog/pin.go",
		old:  "high = max(p.index, 1) - 1",
		new:  "high = max(high, 0)",
		by:   trial{pkg: "store/raftlog", run: "^TestPin$", why: `the log begins at`},
	},
	{
		name: "the log is kept from the entry after the snapshot on",
		file: "snapshot.go",
		old:  "pin, held := s.db.guard.Pin(c.State.Index)",
		new:  "pin, held := s.db.guard.Pin(c.State.Index + 1)",
		by:   trial{pkg: ".", run: "^TestFeedKeepsItsEntry$", why: `the log begins at`},
	},
	{
		name: "an installed state keeps the sessions of the old one",
		file: "store/store.go",
		old:  "s.apply.applier.adopt(s, c.state, c.settings, c.sessions, c.members)",
		new:  "if s.apply.applier.sessions != nil {\n\t\tc.sessions = s.apply.applier.sessions\n\t}\n\ts.apply.applier.adopt(s, c.state, c.settings, c.sessions, c.members)",
		by:   trial{profile: "members", why: differ},
	},
	{
		name: "an installed state keeps the recent rows of the old one",
		file: "store/store.go",
		old:  "eng.recent = newRecent(recentSets, s.opts.CacheBytes/2)",
		new:  "if eng.recent = s.recent.Load(); eng.recent == nil {\n\t\teng.recent = newRecent(recentSets, s.opts.CacheBytes/2)\n\t}",
		by:   trial{profile: "partitions", why: differ + "|" + stale},
	},
	{
		name: "an installed snapshot leaves a log that does not know its last entry",
		file: "fsm.go",
		old:  "f.db.wlog.rebase(st)",
		new:  "_ = st",
		by:   trial{pkg: "internal/sim", run: "^TestFirstEntryAfterASnapshot$", why: `\d+ snapshots were sent, want one`},
	},
	{
		name: "a late snapshot counts as covered by another leader's entry",
		file: "snapshot.go",
		old:  "s.db.guard.GetLog(index, &l) == nil && l.Term == term\n",
		new:  "s.db.guard.GetLog(index, &l) == nil\n",
		by:   trial{pkg: ".", run: "^TestCovers$", why: `covers\(8, \d\) = true`},
	},
	{
		name: "a late snapshot of what is in the log only is installed",
		file: "snapshot.go",
		old:  "return err == nil && first <= applied+1 &&",
		new:  "return false && err == nil && first <= applied+1 &&",
		by:   trial{pkg: ".", run: "^TestCovers$", why: `covers\(8, 2\) = false`},
	},
	{
		name: "a late snapshot counts as covered by a log with a gap before it",
		file: "snapshot.go",
		old:  "return err == nil && first <= applied+1 &&",
		new:  "return err == nil && first <= index &&",
		by:   trial{pkg: ".", run: "^TestCovers$", why: `covers\(8, 2\) = true`},
	},
	{
		name: "a small file is renamed into its place without a sync",
		file: "store/disk/disk.go",
		old:  "err = f.Sync()",
		new:  "err = nil",
		by:   trial{pkg: "store", run: "^TestCrashPoints$", why: `crash \d+ after operation`},
	},
}

// What a leader may take for replicated.
var ofReplication = []mutant{
	{
		name: "entries sent ahead count before the follower has written them",
		file: "transport/ahead.go",
		old:  "a.drop()\n\ta.busy, a.began = true, a.epoch",
		new:  "a.drop()\n\ta.index, a.logTerm = lastOf(req)\n\ta.answered = time.Now()\n\ta.busy, a.began = true, a.epoch",
		by:   trial{profile: "crashes and partitions", why: gone},
	},
	{
		name: "what was sent ahead is not forgotten with the follower's log",
		file: "transport/ahead.go",
		old:  "a.epoch++\n\ta.index = 0\n\ta.drop()",
		new:  "a.drop()",
		by:   trial{pkg: "transport", run: "^TestAnotherAddressAcknowledgedNothing$|^TestASnapshotForgetsWhatWasSentAhead$", why: `an answer of nobody|entries count as stored that the follower dropped`},
	},
	{
		name: "what was sent ahead counts in the next term",
		file: "transport/ahead.go",
		old:  "a.term, a.index, a.asked = req.Term, 0, 0",
		new:  "a.term, a.asked = req.Term, 0",
		by:   trial{pkg: "transport", run: "^TestAnotherTermForgetsWhatWasSentAhead$", why: `Success:true .* after 2 requests`},
	},
	{
		name: "entries sent ahead are said to be committed",
		file: "transport/ahead.go",
		old:  "Entries: a.queue, LeaderCommitIndex: a.commit}",
		new:  "Entries: a.queue, LeaderCommitIndex: a.queue[len(a.queue)-1].Index}",
		by:   trial{profile: "partitions", why: differ + "|" + watched + "|" + stale},
	},
	{
		name: "answers of another member, or another directory, count",
		file: "transport/identity.go",
		old:  "return t.checkIdentity(id)\n}\n\nfunc (t *Transport) checkIdentity",
		new:  "return nil\n}\n\nfunc (t *Transport) checkIdentity",
		by:   trial{pkg: "transport", run: "^TestAnswerIsChecked$", why: `the answer of a wiped member counted`},
	},
	{
		name: "an unknown outcome is told as not done",
		file: "entries.go",
		old:  "errors.Is(err, raft.ErrLeadershipTransferInProgress)\n}",
		new:  "errors.Is(err, raft.ErrLeadershipTransferInProgress) || errors.Is(err, raft.ErrLeadershipLost)\n}",
		by:   trial{pkg: ".", run: "^TestWhatIsCertainlyNotDone$", why: `certainly not done`},
	},
}
