package system

import (
	"context"
	"errors"
	"net"
)

// A KV is one way to the store. Both methods may be called from any goroutine.
type KV interface {
	// Set returns after the write is on stable storage of a majority and
	// applied where Get reads.
	Set(ctx context.Context, key string, value []byte) error
	// Get is linearizable. A missing key is an error, or nil.
	Get(ctx context.Context, key string) ([]byte, error)
}

// A System is a cluster of three members in this process, on TCP and disk, or
// for the limits a single store. Member i keeps all its files in MemberDir(i).
type System interface {
	KV // on the leader, embedded
	// GetAny is Get on one of Readers members. Member 0 is the leader.
	GetAny(ctx context.Context, member int, key string) ([]byte, error)
	Readers() int
	// Majority is how many of the members must sync a write: a majority.
	Majority() int
	Close() error
}

// Remoter is a system with a client that reaches it over TCP.
type Remoter interface {
	Remote() (KV, error)
}

// Observer is a system that counts more than the load generator sees.
type Observer interface {
	// Observe begins to count. What it returns ends it, and tells the counts.
	Observe() func() map[string]float64
}

// errMissing is a read of a preloaded key that finds less than a value.
var errMissing = errors.New("a key that was written has no value, or one of another size")

// Members is how many each cluster has.
const Members = 3

// FreeAddrs returns addresses on loopback that nobody listens on now.
func FreeAddrs(n int) ([]string, error) {
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // after all are known, so that no two are the same
		out = append(out, l.Addr().String())
	}
	return out, nil
}
