package store

// The depth of level 0 is how many tables of it a read has to look at, at most.
// Compactions make it smaller, each flush greater by one, so it is what was written
// and not yet merged.
const (
	// easyDepth is no pressure: compactions begin at 8, and under a load that they keep up
	// with it is more by the time they end.
	easyDepth = 16
	// fullDepth is full pressure.
	fullDepth = 32
	// stopDepth is where Pebble stops writes until a compaction has ended: for seconds,
	// if much is to be merged with it. Far off, since who is told of the pressure goes
	// on with what is under way.
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

// lookAtDepth is called once the engine is open, and when flushes and compactions end, by
// Pebble, which may hold the mutex that it takes to look.
func (e *engine) lookAtDepth() {
	go func() {
		if !e.tryAcquire() {
			return // it is being opened, and will be looked at; or is on its way out
		}
		defer e.release()
		e.looking.Lock()
		defer e.looking.Unlock()
		_ = e.whileWell(func() error { e.depth.Store(e.db.Metrics().Levels[0].Sublevels); return nil })
	}()
}
