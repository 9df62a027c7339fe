package kvtest

import (
	"context"
	"fmt"
	"io"

	"github.com/replkv/replkv/kv"
)

// Backup writes a line for each item.
func (f *Fake) Backup(ctx context.Context, w io.Writer, opts ...kv.ReadOption) error {
	if err := f.begin(ctx, "Backup"); err != nil {
		return err
	}
	f.mu.Unlock() // begin has locked it
	scan := make([]kv.ScanOption, len(opts))
	for i, o := range opts {
		scan[i] = o
	}
	for item, err := range f.Scan(ctx, kv.All(), scan...) {
		if err == nil {
			_, err = fmt.Fprintf(w, "%q %q\n", item.Key, item.Value)
		}
		if err != nil {
			return fail("Backup", err)
		}
	}
	return nil
}
