package raftlog

// tail caches the rows of the newest entries, bounded by bytes.
//
// Invariant: rows[head:] are those of the contiguous indexes from first on,
// and the last of them is the log's last entry (or there are none).
type tail struct {
	limit int64
	bytes int64
	first uint64
	head  int
	rows  [][]byte
}

func (t *tail) len() int { return len(t.rows) - t.head }

func (t *tail) get(index uint64) []byte {
	if index < t.first || index-t.first >= uint64(t.len()) {
		return nil
	}
	return t.rows[t.head+int(index-t.first)]
}

// add appends the rows from index first on.
func (t *tail) add(first uint64, rows [][]byte) {
	if t.limit <= 0 {
		return
	}
	if t.len() == 0 {
		t.reset()
		t.first = first
	}
	t.rows = append(t.rows, rows...)
	for _, row := range rows {
		t.bytes += rowMemory(row)
	}
	for t.bytes > t.limit && t.len() > 0 {
		t.dropOldest()
	}
	t.compact()
}

// dropBefore drops the rows below index.
func (t *tail) dropBefore(index uint64) {
	for t.len() > 0 && t.first < index {
		t.dropOldest()
	}
	t.compact()
}

// dropFrom drops the rows at index and above.
func (t *tail) dropFrom(index uint64) {
	for t.len() > 0 && t.first+uint64(t.len())-1 >= index {
		last := len(t.rows) - 1
		t.bytes -= rowMemory(t.rows[last])
		t.rows[last] = nil
		t.rows = t.rows[:last]
	}
}

func (t *tail) dropOldest() {
	t.bytes -= rowMemory(t.rows[t.head])
	t.rows[t.head] = nil
	t.head++
	t.first++
}

// compact moves the rows to the front once half the slice is unused: O(1)
// per row, amortised.
func (t *tail) compact() {
	if t.head < 64 || t.head < len(t.rows)/2 {
		return
	}
	n := copy(t.rows, t.rows[t.head:])
	clear(t.rows[n:])
	t.rows, t.head = t.rows[:n], 0
}

func (t *tail) reset() { t.rows, t.head, t.bytes = t.rows[:0], 0, 0 }

func rowMemory(row []byte) int64 { return int64(len(row)) + rowMemoryExtras }
