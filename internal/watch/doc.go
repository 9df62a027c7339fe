// Package watch tells many watchers of one member what has changed.
//
// A watcher is in one of two states. Behind, it reads history itself, on its
// caller's goroutine and at its own pace; each begins so, at its first revision.
// Attached, it has a queue, which the hub fills: the hub reads each change from
// the history once, resolves it once, and gives all matching watchers the same
// memory. A watcher that has read all there is attaches; one whose queue is full
// is demoted: it is behind again, and loses nothing, for the history is on disk.
//
// The hub follows the applied revision on a goroutine of its own. Apply only
// wakes it, and never waits. There is one source of events, the history, which
// comes with the state: a snapshot that is installed under the hub, or a restart,
// changes nothing but how far the history reaches back.
//
// Memory: a watcher that is behind holds one page of history (64 KiB, and one
// revision). An attached one holds up to 128 pointers; what they point to is
// shared, and bounded for all queues together (64 MiB). The hub holds one page of
// 512 KiB, and one revision.
package watch
