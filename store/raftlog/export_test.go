package raftlog

// Flush puts what is in memory into files.
func (l *Log) Flush() error { return l.write("Flush", l.db.Flush) }
