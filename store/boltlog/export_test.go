package boltlog

// Occupy is a call that hangs until leave.
func Occupy(l *Log) (leave func()) {
	l.gate.Enter()
	return l.gate.Leave
}

// BreakDisk makes every later write fail, and leaves reads alone.
func BreakDisk(l *Log) error { return l.file.os.Close() }
