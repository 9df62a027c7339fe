// Package lease is the leader's side of leases: its clock says when one has
// expired. What it decides goes through the log, which has the last word: every
// decision carries the term of the leader, and apply refuses it in another.
//
// The promise is that a lease lives at least its TTL after it was granted or kept
// alive. A leader that takes over does not know when that was; it gives each lease
// what was left when the log last said so, from the moment that it may serve. The
// log is told now and then (see stepOf), and whoever is kept alive with less than
// its TTL in the log is answered after the log knows of it.
package lease
