package transport

import "syscall"

// tcpUserTimeoutOption is TCP_USER_TIMEOUT, which package syscall lacks.
const tcpUserTimeoutOption = 0x12

// setUserTimeout is best effort: RPC deadlines find a dead peer too, later.
func setUserTimeout(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeoutOption, int(tcpUserTimeout.Milliseconds()))
	})
}
