//go:build !linux

package transport

import "syscall"

func setUserTimeout(_, _ string, _ syscall.RawConn) error { return nil }
