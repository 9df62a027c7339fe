// Package replkv is an embeddable, replicated, strongly consistent key-value
// store: an application calls Open and has a store that survives the loss of
// machines.
//
// What holds:
//
//   - A write that returned nil is on stable storage of a majority and is never
//     lost, whatever crashes.
//   - Reads are linearizable by default, on any member: a follower asks the
//     leader for its read index, and forwards writes.
//   - Every call takes a ctx and ends when it does. A failed write says whether
//     it was done (OutcomeOf); retries inside the library are exactly-once.
//   - The library never ends its host's process, prints nothing, and Close
//     leaves nothing behind.
//
// What to know:
//
//   - Item.Value belongs to the caller. Arguments are copied before a call
//     returns.
//   - Each member needs a directory of its own; never copy one. Backup and
//     Restore are for clusters: a member gets its data from the others.
//   - A cluster of 3 works on while 2 members do, one of 5 while 3 do.
//
// Three members, one per process, are the same code with another ID:
//
//	db, err := replkv.Open(replkv.Config{
//		Dir: "data", ID: "a", Addr: "10.0.0.1:7000", Listen: ":7000",
//		InitialCluster: []replkv.Member{
//			{ID: "a", Addr: "10.0.0.1:7000"},
//			{ID: "b", Addr: "10.0.0.2:7000"},
//			{ID: "c", Addr: "10.0.0.3:7000"},
//		},
//		PeerTLS: tlsConfig,
//	})
package replkv
