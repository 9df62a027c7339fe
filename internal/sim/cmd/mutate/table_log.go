package main

// What a member promises its peers: entries and votes on stable storage.
var ofTheLog = []mutant{
	{
		name: "the raft log is written without a sync",
		file: "store/raftlog/append.go",
		old:  "if err := l.commit(batch, pebble.Sync); err != nil {",
		new:  "if err := l.commit(batch, pebble.NoSync); err != nil {",
		by:   trial{seed: 8, why: `it has lost what it had acknowledged`},
	},
	{
		name: "the log is truncated before the state is flushed",
		file: "snapshot.go",
		old:  "durable, err := f.db.state.Flush()",
		new:  "durable, err := s.meta.Index, error(nil)",
		by:   trial{seed: 14, why: `the entries between are gone`},
	},
}
