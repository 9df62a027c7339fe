package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/hook"
	"github.com/replkv/replkv/store/disk"
)

// CheckBackup takes a backup of member i, restores it as a single member, and compares the
// items.
func (c *Cluster) CheckBackup(i int) error {
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	var b bytes.Buffer
	info, err := c.DB(i).Backup(ctx, &b)
	if err != nil {
		return fmt.Errorf("backup of member %d: %w", i, err)
	}
	want, items, err := hook.Inspect(c.DB(i)).HashAt(int64(info.Revision))
	if err != nil {
		return err
	}
	cfg := hook.WithEdges(replkv.Config{Dir: "data"}, hook.Edges{FS: disk.NewMem()}).(replkv.Config)
	if _, err := replkv.Restore(ctx, cfg, &b); err != nil {
		return fmt.Errorf("the backup of member %d: %w", i, err)
	}
	db, err := replkv.Open(cfg)
	if err != nil {
		return fmt.Errorf("restored from member %d: %w", i, err)
	}
	return errors.Join(sameAs(ctx, db, want, items), CloseAndCheck(db))
}

// sameAs compares a store that was just restored with the items of the backup.
func sameAs(ctx context.Context, db *replkv.DB, want [32]byte, items int) error {
	if err := db.Ready(ctx); err != nil {
		return fmt.Errorf("the restored store: %w", err)
	}
	// The revision of the founding: what a lease's end has deleted since is there.
	got, n, err := hook.Inspect(db).HashAt(int64(db.Status().CompactedRevision))
	if err == nil && got != want {
		err = fmt.Errorf("the restored store has %d other items than the %d of the backup", n, items)
	}
	return err
}
