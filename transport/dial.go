package transport

import (
	"context"
	"net"
	"time"
)

// A peer that is gone without a word is found by TCP: unacknowledged data ends
// a connection after tcpUserTimeout, and an idle one is probed.
const tcpUserTimeout = 10 * time.Second

// dialTCP is the default of Config.Dial.
func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3},
		Control:         setUserTimeout,
	}
	return d.DialContext(ctx, "tcp", addr)
}
