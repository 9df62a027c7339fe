//go:build race

package replkvtest

// raceDetector: raft v1.8.0 reads a follower's id while it replaces the whole
// row because of a new address (updateLastAppended, without peerLock). Both have
// the same id, so nothing comes of it, but the detector is right to complain.
const raceDetector = true
