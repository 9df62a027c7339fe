package main

// What watchers are told.
var ofWatches = []mutant{
	{
		name: "a watcher attaches behind the hub, and misses events",
		file: "internal/watch/hub.go",
		old:  "case h.ended || len(h.members) > 0 && pos < h.at:",
		new:  "case h.ended:",
		by:   trial{why: watched},
	},
	{
		name: "a demoted watcher is told an event twice",
		file: "internal/watch/watcher.go",
		old:  "w.pos = max(w.pos, w.resume)",
		new:  "w.pos = max(w.pos, w.resume) - 1",
		by:   trial{pkg: "internal/watch", run: "^TestSlowWatcherLosesNothing$|^TestRandomWatchers$", why: `got \d+, want \d+|changes, want|\d+ after \d+`},
	},
	{
		name: "a demoted watcher misses an event",
		file: "internal/watch/watcher.go",
		old:  "w.resume = w.queue[0].Revision - 1",
		new:  "w.resume = w.queue[0].Revision",
		by:   trial{why: watched},
	},
	{
		name: "progress overtakes events",
		file: "internal/watch/hub.go",
		old:  "Revision: max(h.at, w.after), Progress: true",
		new:  "Revision: max(h.at, w.after) + 1, Progress: true",
		by:   trial{pkg: "internal/watch", run: "^TestProgressDoesNotOvertakeEvents$", why: `was promised`},
	},
	{
		name: "a watcher that reads alone is not told the last revision of a page",
		file: "internal/watch/watcher.go",
		old:  "for i := range page.Changes {",
		new:  "for i := range max(len(page.Changes)-1, min(1, len(page.Changes))) {",
		by:   trial{why: watched},
	},
	{
		name: "a watch begins one revision late",
		file: "internal/watch/watcher.go",
		old:  "w := &watcher{hub: h, o: o, pos: o.After,",
		new:  "w := &watcher{hub: h, o: o, pos: o.After + min(1, o.After/2),",
		by:   trial{profile: "crashes", why: watched + "|revision lies in the future"},
	},
}
