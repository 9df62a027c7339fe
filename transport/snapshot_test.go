package transport

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/replkv/replkv/transport/memnet"
)

// stream is the first size bytes of a random stream.
func stream(size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{1}), size)
}

// readSnapshot reads as raft does, and checks what io.Reader leaves open.
func readSnapshot(r io.Reader, w io.Writer, buf []byte) (total int64, err error) {
	for {
		n, err := r.Read(buf)
		total += int64(n)
		w.Write(buf[:n])
		switch {
		case n > 0 && err != nil:
			return total, errors.New("bytes together with an error")
		case n == 0 && err == nil:
			return total, errors.New("neither bytes nor an error")
		case err == io.EOF:
			return total, nil
		case err != nil:
			return total, err
		}
	}
}

func TestASnapshotArrivesAsItIs(t *testing.T) {
	for _, size := range []int64{0, 1, snapshotChunkBytes, 50<<20 + 17} {
		bubble(t, func(t *testing.T, n *memnet.Network) {
			a, b := start(t, n, "a"), start(t, n, "b")
			got, want := sha256.New(), sha256.New()
			io.Copy(want, stream(size))
			consume(t, b, func(rpc raft.RPC) {
				n, err := readSnapshot(rpc.Reader, got, make([]byte, 100_003))
				rpc.Respond(&raft.InstallSnapshotResponse{Success: n == size}, err)
			})
			var resp raft.InstallSnapshotResponse
			if err := a.InstallSnapshot("b", "b:1", snapshotRequest("a", size), &resp, stream(size)); err != nil || !resp.Success {
				t.Fatalf("%+v, %v", resp, err)
			}
			if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
				t.Fatal("differs")
			}
		})
	}
}

// install sends a snapshot, and returns what the receiver's read ended with.
func install(t *testing.T, n *memnet.Network, size int64, data io.Reader) (sent, read error) {
	t.Helper()
	a, b := start(t, n, "a"), start(t, n, "b")
	ended := make(chan error, 1)
	consume(t, b, func(rpc raft.RPC) {
		_, err := readSnapshot(rpc.Reader, io.Discard, make([]byte, 32<<10))
		ended <- err
		rpc.Respond(&raft.InstallSnapshotResponse{}, err)
	})
	sent = a.InstallSnapshot("b", "b:1", snapshotRequest("a", size), &raft.InstallSnapshotResponse{}, data)
	select {
	case read = <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the receiver hangs")
	}
	return sent, read
}

var errDisk = errors.New("disk")

func TestASnapshotOfTheWrongSizeIsAnErrorOnBothSides(t *testing.T) {
	for name, data := range map[string]io.Reader{
		"short":  stream(1 << 20),
		"long":   stream(3 << 20),
		"broken": io.MultiReader(stream(1<<20), brokenReader{}),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *memnet.Network) {
				if sent, read := install(t, n, 2<<20, data); sent == nil || read == nil {
					t.Fatalf("sender: %v; receiver: %v", sent, read)
				}
			})
		})
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errDisk }

// hook calls f once, after some bytes.
type hook struct {
	r     io.Reader
	after int64
	f     func()
}

func (h *hook) Read(b []byte) (int, error) {
	n, err := h.r.Read(b)
	if h.after -= int64(n); h.after <= 0 && h.f != nil {
		h.f()
		h.f = nil
	}
	return n, err
}

func TestASnapshotCutMidwayEndsOnBothSides(t *testing.T) {
	for name, fault := range map[string]func(n *memnet.Network){
		"dropped": func(n *memnet.Network) { n.Drop("a", "b") },
		"cut":     func(n *memnet.Network) { n.Cut("a", "b") },
		"killed":  func(n *memnet.Network) { n.Kill("a") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *memnet.Network) {
				data := &hook{r: stream(50 << 20), after: 5 << 20, f: func() { fault(n) }}
				within(t, 35*time.Second, func() {
					if sent, read := install(t, n, 50<<20, data); sent == nil || read == nil {
						t.Fatalf("sender: %v; receiver: %v", sent, read)
					}
				})
			})
		})
	}
}

func TestAFollowerThatDoesNotReadEndsASnapshot(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		a, b := start(t, n, "a"), start(t, n, "b")
		release := make(chan struct{})
		ended := make(chan error, 1)
		consume(t, b, func(rpc raft.RPC) {
			<-release // its disk hangs
			_, err := io.Copy(io.Discard, rpc.Reader)
			ended <- err
			rpc.Respond(nil, err)
		})
		within(t, a.cfg.Timeouts.SnapshotStall, func() {
			err := a.InstallSnapshot("b", "b:1", snapshotRequest("a", 50<<20), &raft.InstallSnapshotResponse{}, stream(50<<20))
			if status.Code(err) != codes.DeadlineExceeded {
				t.Fatalf("got %v", err)
			}
		})
		synctest.Wait()
		close(release)
		if err := <-ended; err == nil {
			t.Fatal("the receiver takes half a snapshot for a whole one")
		}
	})
}

func TestASlowSnapshotTakesItsTime(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		a, b := start(t, n, "a"), start(t, n, "b")
		consume(t, b, func(rpc raft.RPC) {
			got, err := readSnapshot(rpc.Reader, slowWriter{}, make([]byte, 64<<10))
			time.Sleep(5 * time.Minute) // the restore
			rpc.Respond(&raft.InstallSnapshotResponse{Success: got == 16<<20}, err)
		})
		var resp raft.InstallSnapshotResponse
		if err := a.InstallSnapshot("b", "b:1", snapshotRequest("a", 16<<20), &resp, stream(16<<20)); err != nil || !resp.Success {
			t.Fatalf("%+v, %v", resp, err)
		}
	})
}

type slowWriter struct{}

func (slowWriter) Write(b []byte) (int, error) {
	time.Sleep(200 * time.Millisecond) // 320 KB/s
	return len(b), nil
}

func TestAReceiverThatRefusesEarlyIsHeard(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		a, b := start(t, n, "a"), start(t, n, "b")
		consume(t, b, func(rpc raft.RPC) { rpc.Respond(nil, errDisk) })
		err := a.InstallSnapshot("b", "b:1", snapshotRequest("a", 50<<20), &raft.InstallSnapshotResponse{}, stream(50<<20))
		if status.Code(err) != codes.Internal {
			t.Fatalf("got %v", err)
		}
	})
}
