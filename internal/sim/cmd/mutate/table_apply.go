package main

// The same on every member, whatever is in its memory.
var ofApply = []mutant{
	{
		name: "a read that fails is the end of a range",
		file: "store/head.go",
		old:  "if err := asCorrupt(it.Error()); err != nil || len(over) == 0 {\n\t\t\t\treturn err == nil, err",
		new:  "if len(over) == 0 {\n\t\t\t\treturn true, asCorrupt(it.Error())",
		by:   trial{pkg: "store", run: "^TestApplyReadFails$", why: `apply does something else, without an error`},
	},
	{
		name: "history ages by the proposers' wall clocks",
		file: "compact.go",
		old:  "return min(max(rev, old), young), err",
		new:  "return max(rev, min(old, young)*0), err",
		by:   trial{pkg: "replkvtest", run: "^TestHistoryAgeByWrongClocks$", why: `after write \d+: compacted`},
	},
	{
		name: "apply depends on the order of a map",
		file: "store/head.go",
		old:  "slices.SortFunc(out, func(a, b *overlayRow) int { return slices.Compare(a.key, b.key) })\n\treturn out",
		new:  "slices.SortFunc(out, func(a, b *overlayRow) int { return 0 })\n\treturn out",
		by:   trial{pkg: "store", run: "^TestGrouping$|^TestMetamorphic$", why: `entry \d+ batch \d+:|states differ`},
	},
	{
		name: "apply depends on where Pebble batches end",
		file: "store/txn.go",
		old:  "rows++\n\t\t\tbytes += x.bytes",
		new:  "bytes += 0 * x.bytes",
		by:   trial{pkg: "store", run: "^TestUnchangedWhateverBatches$", why: `entries at a time: \d+ comparisons hold`},
	},
	{
		name: "apply depends on what the table of recent rows happens to hold",
		file: "store/write.go",
		old:  "if !h.live() {\n\t\treturn res, nil // a delete",
		new:  "if !h.live() || !h.known && h.mod%7 == 0 {\n\t\treturn res, nil // a delete",
		by:   trial{profile: "crashes", why: differ + "|not linearizable"},
	},
	{
		name: "a reader adds a row that is not the newest to the table of recent rows",
		file: "store/recent.go",
		old:  "case s == nil && (t.newest > committed || t.changes != set.changes):",
		new:  "case s == nil && t.newest > committed && t.changes != set.changes:",
		by:   trial{pkg: "store", run: "^TestReadsNeverGoBack$|^TestATicketIsOfNow$", why: `is \d+, \d+ was applied|afterwards:`},
	},
	{
		name: "the table of recent rows shows what is not committed",
		file: "store/recent.go",
		old:  "if s == nil || s.mod > committed() {",
		new:  "if s == nil || s.mod > committed()+1 {",
		by:   trial{pkg: "store", run: "^TestReadsNeverGoBack$|^TestAReadValueIsKeptByWrites$", why: `an uncommitted row is shown`},
	},
	{
		name: "a write after a deletion goes on with the old version",
		file: "store/recent.go",
		old:  "case s.tomb:\n\t\tn.resolved, n.create, n.version = true, rev, 1",
		new:  "case s.tomb:\n\t\tn.resolved, n.create, n.version = true, rev, 2",
		by:   trial{why: `want created at|not linearizable`},
	},
}

// What removal of superseded rows must leave.
var ofTheSweep = []mutant{
	{
		name: "the sweep removes the row that must stay",
		file: "store/sweep.go",
		old:  "err != nil || !h.tomb {",
		new:  "err != nil {",
		by:   trial{pkg: "store", run: "^TestSweepInSteps$|^TestMetamorphic$", why: `the data differs|Get\(|Scan\(`},
	},
	{
		name: "the sweep removes a tombstone before its elders",
		file: "store/sweep.go",
		old:  "for ; it.Valid(); it.Next() {\n\t\t// Something",
		new:  "if h.tomb {\n\t\tif err := w.b.DeleteSized(survivor, size, nil); err != nil {\n\t\t\treturn false, err\n\t\t}\n\t}\n\tfor ; it.Valid(); it.Next() {\n\t\t// Something",
		by:   trial{pkg: "store", run: "^TestSweep|^TestMetamorphic$", why: `the data differs|Get\(|Scan\(`},
	},
	{
		name: "the sweep removes elders before the survivor knows its version",
		file: "store/sweep.go",
		old:  "if err := settleRow(w.b, it, &h); err != nil {",
		new:  "if err := error(nil); err != nil {",
		by:   trial{pkg: "store", run: "^TestSweep|^TestMetamorphic$", why: `the data differs|Get\(|Scan\(`},
	},
	{
		name: "the sweep removes what is above the compacted revision",
		file: "store/sweep.go",
		old:  "if !it.SeekPrefixGE(appendVersion(slices.Clone(w.bare), w.target)) {",
		new:  "if !it.SeekPrefixGE(slices.Clone(w.bare)) {",
		by:   trial{pkg: "store", run: "^TestSweep|^TestMetamorphic$", why: `the data differs|Get\(|Scan\(`},
	},
}
