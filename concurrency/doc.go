// Package concurrency has locks and elections on a replkv store, for processes
// that share one: Session, a lease that is kept alive; Mutex; Election. It needs
// the verbs of package kv only, so that the embedded handle (*replkv.DB) and the
// remote client (*client.Client) do alike.
//
//	s, err := concurrency.NewSession(ctx, db, 0)
//	...
//	defer s.Close(context.Background())
//	m := concurrency.NewMutex(s, "jobs/nightly")
//	token, err := m.Lock(ctx)
//	...
//	defer m.Unlock(context.Background())
//
// # What a lock can promise, and what it cannot
//
// In the store, at each revision, at most one session holds a lock: the one whose
// key is the oldest. A holder that dies has its lock until its lease ends, the TTL
// at most as a rule, and then the next one has it.
//
// But no lock that ends by itself can promise that its holder still has it at the
// moment it acts. A process can be paused between two instructions, by the garbage
// collector, the scheduler, a suspended machine, for longer than its TTL; a request
// that it sent can travel for as long. Session.Done is closed before the lease can
// end, as this process's clock tells, counted from before the last keep-alive that
// succeeded was sent; whoever was paused hears of it when it runs again, and may have
// written something in between. (Clocks that run at different speeds, or stand still
// while a machine is suspended, make it worse.) So let what the lock protects decide:
//
//   - In the same store: do each write in a Txn with the lock's IsOwner among its
//     comparisons. It is done only if the lock is held at that very revision.
//   - Elsewhere: send the Token along, and have the resource refuse a token that is
//     lower than the highest it has seen. Tokens rise from one holder to the next.
//
// Without either, take a lock for an optimization that saves work done twice, not
// for what keeps data right. Burrows calls such tokens sequencers (The Chubby lock
// service for loosely-coupled distributed systems, 2006, section 2.4); Kleppmann
// shows what happens without (How to do distributed locking, 2016).
//
// # Names
//
// A lock or election of some name keeps a key for each session that holds it or
// waits: the name, a slash, and the lease in 16 hexadecimal digits. Other keys
// below the name, also those of locks named like paths below it, do not matter to
// it. One name is for a lock or for an election, not for both, and its keys are not
// for others to write.
package concurrency
