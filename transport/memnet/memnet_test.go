package memnet

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// bubble runs f in virtual time; the bubble fails if a goroutine is left.
func bubble(t *testing.T, f func(t *testing.T, n *Network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, New()) })
}

func pair(t *testing.T, n *Network) (client, server net.Conn) {
	t.Helper()
	l, err := n.Listen("b:1")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = n.Dialer("a")(t.Context(), "b:1"); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		server.Close()
		if c := n.Conns(); c != 0 {
			t.Errorf("%d connections left", c)
		}
	})
	return client, server
}

func mustRead(t *testing.T, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("read %q, %v; want %q", b, err, want)
	}
}

func wantTimeout(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(time.Minute))
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d, %v; want a timeout", n, err)
	}
	c.SetReadDeadline(time.Time{})
}

func TestBytesArriveInOrderThroughABoundedBuffer(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		c, s := pair(t, n)
		sent := make([]byte, 5*bufferBytes+17)
		rand.Read(sent)
		go func() {
			c.Write(sent)
			c.Close()
		}()
		got, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("got %d bytes, %v", len(got), err)
		}
	})
}

func TestAWriterWaitsForItsReader(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		c, _ := pair(t, n)
		c.SetWriteDeadline(time.Now().Add(time.Second))
		m, err := c.Write(make([]byte, 2*bufferBytes))
		if m != bufferBytes || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("wrote %d, %v", m, err)
		}
	})
}

func TestACutHoldsBytesBackOneWay(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		c, s := pair(t, n)
		n.Cut("a", "b")
		c.Write([]byte("there"))
		s.Write([]byte("back"))
		mustRead(t, c, "back")
		wantTimeout(t, s)
		n.Heal()
		mustRead(t, s, "there")
		n.Partition([]string{"a"}, []string{"b", "c"})
		s.Write([]byte("late"))
		s.Close()
		wantTimeout(t, c)
		n.Partition([]string{"a", "b"}, []string{"c"})
		mustRead(t, c, "late")
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("want EOF, got %v", err)
		}
	})
}

func TestDelayKeepsOrder(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		c, s := pair(t, n)
		start := time.Now()
		n.Delay("a", "b", time.Second)
		c.Write([]byte("1"))
		n.Delay("a", "b", 0)
		c.Write([]byte("2"))
		mustRead(t, s, "12")
		if d := time.Since(start); d != time.Second {
			t.Fatalf("took %v", d)
		}
	})
}

func TestDialOverACutHangs(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		l, _ := n.Listen("b:1")
		defer l.Close()
		n.Cut("b", "a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		_, err := n.Dialer("a")(ctx, "b:1")
		var ne net.Error
		if !errors.As(err, &ne) || !ne.Timeout() || time.Since(start) != time.Minute {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
		go func() {
			time.Sleep(time.Second)
			n.Heal()
		}()
		c, err := n.Dialer("a")(t.Context(), "b:1")
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if _, err := n.Dialer("a")(t.Context(), "b:2"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("no listener: %v", err)
		}
	})
}

func TestKillReachesThePeerUnlessCut(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		c, s := pair(t, n)
		n.Cut("b", "a")
		n.Kill("b")
		if _, err := s.Write([]byte("x")); !errors.Is(err, syscall.ENETDOWN) {
			t.Fatalf("the zombie writes: %v", err)
		}
		wantTimeout(t, c)
		n.Heal()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("after the cut: %v", err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Fatalf("write: %v", err)
		}
		if _, err := n.Listen("b:1"); err == nil {
			t.Fatal("a dead host listens")
		}
		n.Revive("b")
		l, err := n.Listen("b:1")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	})
}

func TestDropResetsBothEnds(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		c, s := pair(t, n)
		n.Drop("b", "a")
		for _, x := range []net.Conn{c, s} {
			if _, err := x.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("%v", err)
			}
		}
	})
}

// TestBrokenPipeIsBehindWhatWasSent: a writer does not hear of the other end's close
// before the reader beside it can.
func TestBrokenPipeIsBehindWhatWasSent(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		c, s := pair(t, n)
		n.Delay("b", "a", time.Second)
		s.Write([]byte("last words"))
		s.Close()
		full := make([]byte, bufferBytes)
		if n, err := c.Write(full); n != len(full) || err != nil {
			t.Fatalf("wrote %d, %v before the close had arrived", n, err)
		}
		began := time.Now()
		if _, err := c.Write(full); !errors.Is(err, syscall.EPIPE) { // it waits for room
			t.Fatal(err)
		}
		if d := time.Since(began); d != time.Second {
			t.Fatalf("broken after %v", d)
		}
		mustRead(t, c, "last words")
	})
}

func TestClose(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		l, _ := n.Listen("x")
		go func() {
			time.Sleep(time.Second)
			l.Close()
		}()
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		c, s := pair(t, n)
		go func() {
			time.Sleep(time.Second)
			c.Close()
		}()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		if _, err := s.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestGRPCInABubble(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		l, _ := n.Listen("srv:1")
		srv := grpc.NewServer()
		healthpb.RegisterHealthServer(srv, health.NewServer())
		go srv.Serve(l)
		defer srv.Stop()
		dial := n.Dialer("cli")
		cc, err := grpc.NewClient("passthrough:///srv:1", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(dial))
		if err != nil {
			t.Fatal(err)
		}
		defer cc.Close()
		check := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_, err := healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{})
			return err
		}
		n.Delay("cli", "srv", 10*time.Millisecond)
		if err := check(); err != nil {
			t.Fatal(err)
		}
		n.Cut("srv", "cli")
		if err := check(); err == nil {
			t.Fatal("an answer over a cut")
		}
		n.Heal()
		if err := check(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestRate: bytes take their time, and jitter does not reorder them.
func TestRate(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		client, server := pair(t, n)
		n.Rate("a", "b", 1000)
		n.Jitter("a", "b", 100*time.Millisecond)
		began := time.Now()
		for _, part := range []string{strings.Repeat("x", 1000), strings.Repeat("y", 1000), "z"} {
			if _, err := client.Write([]byte(part)); err != nil {
				t.Fatal(err)
			}
		}
		mustRead(t, server, strings.Repeat("x", 1000)+strings.Repeat("y", 1000)+"z")
		if took := time.Since(began); took < 2*time.Second || took > 2200*time.Millisecond {
			t.Errorf("2001 bytes at 1000 per second took %v", took)
		}
		n.Rate("a", "b", 0)
		n.Jitter("a", "b", 0)
		if _, err := client.Write([]byte("now")); err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		mustRead(t, server, "now")
		if took := time.Since(began); took > 0 {
			t.Errorf("without limit it took %v", took)
		}
	})
}
