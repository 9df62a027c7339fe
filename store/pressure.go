package store

// The depth of level 0 is how many tables of it a read has to look at, at most.
// Compactions make it smaller, each flush greater by one, so it is what was written
// and not yet merged.
const (
	// easyDepth is no pressure. Compactions begin at 8.
	easyDepth = 10
	// fullDepth is full pressure.
	fullDepth = 24
	// stopDepth is where Pebble stops writes until a compaction has ended: for
	// seconds, if much is to be merged with it. Followers, whom no pressure slows down,
	// have so much room for theirs to take longer than the leader's.
	stopDepth = 60
)

// Pressure says how far the merging of what is written lags: from 0, it does not, to
// 1, as far as it should. Who writes should slow down in between, as
// CockroachDB's admission control does by the same measure: else there is no
// middle between full speed and a stall of seconds.
func (s *Store) Pressure() float64 {
	e, err := s.acquire()
	if err != nil {
		return 0
	}
	defer e.release()
	return min(1, max(0, float64(e.depth.Load()-easyDepth)/(fullDepth-easyDepth)))
}

// lookAtDepth is called when flushes and compactions end, by Pebble, which may hold
// the mutex that it takes to look.
func (e *engine) lookAtDepth() {
	if e.looks.Add(1) > 1 {
		return // who looks will look again
	}
	go func() {
		if !e.tryAcquire() {
			return
		}
		defer e.release()
		for asked := int32(1); asked > 0; asked = e.looks.Add(-asked) {
			asked = e.looks.Load()
			if e.whileWell(func() error { e.depth.Store(e.db.Metrics().Levels[0].Sublevels); return nil }) != nil {
				return
			}
		}
	}()
}
