// Package client uses a replkv store from a process that does not embed it. A
// *Client is a kv.KV, a kv.Lessor and a kv.Cluster, as the embedded *replkv.DB is: the same
// verbs, options and errors, without the engine linked in.
//
//	c, err := client.Dial(client.Config{
//		Endpoints: []string{"a.example:7000", "b.example:7000", "c.example:7000"},
//		TLS:       &tls.Config{RootCAs: roots},
//	})
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//	rev, err := c.Set(ctx, "username", []byte("admin"))
//
// Endpoints are members whose servers have db.RegisterClient. Any of them will
// do: a follower passes writes on to the leader, and asks it before it reads.
//
// # Which endpoint answers
//
// A call goes to the endpoint that answered last. If that is unavailable, the
// others get their turn, once each for a read.
//
// A write is done exactly once. It is numbered in a session, which the client
// opens with its first write and the whole cluster knows, so a write in doubt is
// sent again, to any endpoint, until its outcome is known or ctx ends: whoever
// gets it second answers what the first has done. The outcome stays unknown
// (kv.ErrOutcomeUnknown) only if ctx ends first, if the cluster forgot the
// session meanwhile (it keeps the 10,000 used last), or after an error that asking
// again cannot help. A new call of the same Set is another write: kv.IfRevision
// makes that safe. A write that certainly was not done because every endpoint
// refused it or none was reached fails at once.
//
// A change of the members (kv.Cluster) without condition goes on to the next
// endpoint, too: what is so already is no error. One with a condition does only
// if it is certain that it was not made.
//
// # Many callers
//
// Writes of concurrent callers share requests, at most 2 of which are under way;
// a lone one waits for nobody. So do Gets without options. Each has its own result, and its caller may leave
// without disturbing the others. Interceptors among Config.DialOptions see the
// request with the values of one caller's ctx. Metadata of gRPC in a ctx is for
// the calls with that ctx, which therefore share nothing, and are slower.
//
// # Errors
//
// Errors are *kv.Error, with what is known of a write (kv.OutcomeOf). A write
// that expires under way satisfies errors.Is for both ctx.Err() and
// kv.ErrOutcomeUnknown; one that was not sent yet is certainly not done. An
// error of a read never matches kv.ErrOutcomeUnknown.
// If no endpoint can be reached the error matches kv.ErrNoLeader and names
// them all. A gRPC status is found by status.FromError where there was one
// that package kv has no name for.
//
// # Time
//
// A call whose ctx has no deadline gets Config.RequestTimeout. A Scan gets it
// for each wait for items, and the loop's body may take its time. A Watch has no
// limit but its ctx: it looks for another endpoint when a stream breaks, or says
// nothing for one and a half RequestTimeouts, and ends if none is found within
// RequestTimeout. An endpoint
// that cannot be connected to within 2 s, or its share of the time that is
// left, loses its turn. One that is connected and does not answer uses up the
// time of the calls it has, and of the writes that wait behind them.
package client
