package boltlog

// Occupy is a call that hangs until leave.
func Occupy(l *Log) (leave func()) {
	l.gate.enter()
	return l.gate.leave
}
