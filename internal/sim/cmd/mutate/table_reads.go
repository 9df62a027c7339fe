package main

// What a read may be told.
var ofReads = []mutant{
	{
		name: "reads are served before the epoch of the term",
		file: "reader.go",
		old:  "st.CommandTerm != term {",
		new:  "st.CommandTerm > term {",
		by:   trial{seed: 1, why: stale},
	},
	{
		name: "reads are served without confirmation by a quorum",
		file: "reader.go",
		old:  "case yes > len(voters)/2:",
		new:  "case yes > 0:",
		by:   trial{profile: "partitions", why: stale},
	},
	{
		name: "a confirmation asked for before the round counts",
		file: "reader.go",
		old:  "p != nil && p.stamp >= round {",
		new:  "p != nil && p.stamp+1 >= round {",
		by:   trial{pkg: ".", run: "^TestConfirmationIsOfItsRound$", why: `in round \d+: \d yes`},
	},
	{
		name: "an answer counts for the round in which it comes",
		file: "reader.go",
		old:  "p.stamp, p.term, p.voter = stamp, term, voter",
		new:  "p.stamp, p.term, p.voter = c.round, term, voter",
		by:   trial{pkg: ".", run: "^TestConfirmationIsOfItsRound$", why: `in round \d+: \d yes`},
	},
	{
		name: "a read does not wait for the applied index",
		file: "reader.go",
		old:  "return r.db.applied.wait(ctx, limit, b.index)",
		new:  "return r.db.applied.wait(ctx, limit, min(b.index, 1))",
		by:   trial{why: stale},
	},
	{
		name: "a View asks nobody for a read index",
		file: "tx.go",
		old:  "err = db.barrier(ctx, v.o)",
		new:  "err = nil",
		by:   trial{why: stale},
	},
	{
		name: "MaxStaleness counts from the answer, not from the question",
		file: "reader.go",
		old:  "r.fresh.note(readPoint{asked, a.index}, r.db.state.State().Index)",
		new:  "r.fresh.note(readPoint{asked.Add(time.Since(asked)), a.index}, r.db.state.State().Index)",
		by:   trial{pkg: "replkvtest", run: "^TestMaxStalenessIsOfTheQuestion$", why: `acknowledged .* ago`},
	},
}
