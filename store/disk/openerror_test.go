package disk_test

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store/disk"
)

func TestOpenError(t *testing.T) {
	// Pebble's own word for a directory of a later version.
	fs := disk.NewMem()
	db, err := pebble.Open("db", &pebble.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	names, _ := fs.List("db")
	for _, n := range names {
		var serial, version int
		if _, err := fmt.Sscanf(n, "marker.format-version.%d.%d", &serial, &version); err == nil {
			if err := fs.Rename("db/"+n, fmt.Sprintf("db/marker.format-version.%06d.%03d", serial, 900)); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, tooNew := pebble.Open("db", &pebble.Options{FS: fs})
	for _, c := range []struct{ err, want error }{
		{tooNew, kv.ErrFormatTooNew},
		{errors.New("block_restart_interval<16"), kv.ErrCorrupt},
		{fmt.Errorf("open 000004.sst: %w", iofs.ErrNotExist), kv.ErrCorrupt},
		{fmt.Errorf("lock: %w", syscall.EAGAIN), kv.ErrDirLocked},
		{fmt.Errorf("read: %w", syscall.EIO), syscall.EIO},
	} {
		got := disk.OpenError(c.err)
		if !errors.Is(got, c.want) || !errors.Is(got, c.err) {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
		if c.want == syscall.EIO && errors.Is(got, kv.ErrCorrupt) {
			t.Errorf("a disk error is no damage: %v", got)
		}
	}
	if disk.OpenError(nil) != nil {
		t.Error("an error of nothing")
	}
}
