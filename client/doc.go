// Package client uses a replkv store from a process that does not embed it. A
// *Client is a kv.KV, as the embedded *replkv.DB is: the same verbs, options
// and errors, without the engine linked in.
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
// others get their turn, once each: for a read always, for a write only if it
// is certain that it was not done. A write whose outcome is unknown is never
// sent again: only the caller knows whether that is safe (a Set with
// kv.IfRevision is, a plain Set may overwrite somebody else's).
//
// # Errors
//
// Errors are *kv.Error, with what is known of a write (kv.OutcomeOf). A write
// that expires under way satisfies errors.Is for both ctx.Err() and
// kv.ErrOutcomeUnknown. An error of a read never matches kv.ErrOutcomeUnknown.
// If no endpoint can be reached the error matches kv.ErrNoLeader and names
// them all. A gRPC status is found by status.FromError where there was one
// that package kv has no name for.
//
// # Time
//
// A call whose ctx has no deadline gets Config.RequestTimeout. A Scan gets it
// for each wait for items, and the loop's body may take its time. An endpoint
// that cannot be connected to within 2 s, or its share of the time that is
// left, loses its turn. One that is connected and does not answer uses up the
// call's time.
package client
