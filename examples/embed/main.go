// Command embed is the smallest program that embeds a store: one member, in the
// directory data. Run it twice: the second time it finds what the first wrote.
//
//	cd examples/embed && go run .
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/replkv/replkv"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	db, err := replkv.Open(replkv.Config{Dir: "data"})
	if err != nil {
		return err
	}
	defer db.Close()

	item, err := db.Get(ctx, "username")
	if err != nil && !errors.Is(err, replkv.ErrNotFound) {
		return err
	}
	fmt.Fprintf(out, "before: %q, written %d times\n", item.Value, item.Version)

	rev, err := db.Set(ctx, "username", []byte("admin"))
	if err != nil {
		return err // replkv.OutcomeOf(err) says whether it was done
	}
	fmt.Fprintf(out, "username=admin, revision %d\n", rev)
	return db.Shutdown(ctx)
}
