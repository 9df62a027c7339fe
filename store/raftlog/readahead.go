package raftlog

const (
	// readers is how many sequential readers are told apart: NewRaft, or
	// the replication to that many lagging followers.
	readers = 4
	// A reader's first chunk is small, since it may be a lone read; each
	// further one is twice the size, up to the last, which makes the cost of
	// opening an iterator vanish.
	firstChunkBytes = 4 << 10
	lastChunkBytes  = 512 << 10
)

// readahead holds the rows that the latest reads from disk brought along: at
// most readers chunks of lastChunkBytes and one entry.
//
// Invariant: all rows are those of entries in the log; forget drops them
// when a suffix of the log is truncated.
type readahead struct {
	chunks [readers]chunk
	clock  uint64
}

type chunk struct {
	first uint64
	rows  [][]byte
	size  int    // bytes to read next time
	used  uint64 // readahead.clock at the last hit
}

func (c *chunk) next() uint64 { return c.first + uint64(len(c.rows)) }

func (r *readahead) get(index uint64) []byte {
	for i := range r.chunks {
		c := &r.chunks[i]
		if index >= c.first && index < c.next() {
			r.clock++
			c.used = r.clock
			return c.rows[index-c.first]
		}
	}
	return nil
}

// size is how many bytes a read at index should bring along: many if it goes
// on where a chunk ends.
func (r *readahead) size(index uint64) int {
	if c := r.ending(index); c != nil {
		return c.size
	}
	return firstChunkBytes
}

// put keeps the rows from index first on, in place of the chunk that they
// follow, else of the one that was used least recently.
func (r *readahead) put(first uint64, rows [][]byte) {
	size := 4 * firstChunkBytes
	c := r.ending(first)
	if c != nil {
		size = min(2*c.size, lastChunkBytes)
	} else {
		c = &r.chunks[0]
		for i := range r.chunks {
			if r.chunks[i].used < c.used {
				c = &r.chunks[i]
			}
		}
	}
	r.clock++
	*c = chunk{first: first, rows: rows, size: size, used: r.clock}
}

func (r *readahead) ending(index uint64) *chunk {
	for i := range r.chunks {
		if c := &r.chunks[i]; len(c.rows) > 0 && c.next() == index {
			return c
		}
	}
	return nil
}

func (r *readahead) forget() { r.chunks = [readers]chunk{} }
