// Package overlay makes a Go toolchain whose testing/synctest bubbles repeat: the same
// program with the same seed takes the same steps. It patches copies of some files of the
// standard library, which go build takes instead of the originals (-overlay). Nothing
// installed changes.
//
// A bubble's clock is virtual, but which goroutine runs next, which ready case a select
// takes, which of two timers of one moment fires first, the order in which a map is ranged
// over, and crypto/rand differ from run to run. The patches take the randomness of all
// that from one stream of numbers per bubble, keep the runtime from interrupting a
// goroutine because real time has passed, and keep what depends on real time, threads and
// the time at which packages were initialized, away from the heap: the order of a map
// whose keys are pointers depends on addresses. It needs one processor and no garbage
// collection, whose workers the scheduler would put between others (Env), and the same
// environment and arguments in each run.
//
// Each patch names the text that it replaces, which must be there exactly once. Where it
// is not, in another version of Go, Write says so with ErrVersion, and the caller goes on
// without.
package overlay
