package client

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/replkv/replkv/kv"
)

// TestBackup: what the member writes arrives, in order and whole.
func TestBackup(t *testing.T) {
	c, a, _, _ := two(t)
	fill(t, a, 3)
	var want, got bytes.Buffer
	if err := a.Backup(t.Context(), &want); err != nil {
		t.Fatal(err)
	}
	n, err := c.Backup(t.Context(), &got, kv.Local())
	if err != nil || n != int64(got.Len()) || !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Errorf("%d bytes, %v; %d came, of %d", n, err, got.Len(), want.Len())
	}
}

// TestBackupGoesOn: before the first byte to another endpoint, afterwards not; and errors
// are what they are.
func TestBackupGoesOn(t *testing.T) {
	c, a, b, _ := two(t)
	fill(t, a, 4)
	fill(t, b, 4)
	a.Before = func(_ context.Context, op string) error {
		if op == "Backup" {
			return kv.ErrClosed
		}
		return nil
	}
	var got bytes.Buffer
	if n, err := c.Backup(t.Context(), &got); err != nil || n < 4<<20 {
		t.Errorf("with another endpoint: %d bytes, %v", n, err)
	}
	b.Between = func(_ context.Context, n int) error {
		if n == 3 {
			return kv.ErrClosed
		}
		return nil
	}
	got.Reset()
	if n, err := c.Backup(t.Context(), &got); !errors.Is(err, kv.ErrClosed) || n == 0 || n != int64(got.Len()) {
		t.Errorf("with one that ends midway: %d bytes, %v", n, err)
	}
	b.Between = nil
	full := errors.New("full")
	if _, err := c.Backup(t.Context(), writerFunc(func([]byte) (int, error) { return 0, full })); !errors.Is(err, full) {
		t.Errorf("with a writer that fails: %v", err)
	}
	if _, err := c.Backup(t.Context(), &got, kv.AtRevision(1), kv.AtLeast(-1)); !errors.Is(err, kv.ErrInvalidArgument) {
		t.Errorf("with a negative revision: %v", err)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
