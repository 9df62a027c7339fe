// Command importer is an application that uses replkv beside
// hashicorp/memberlist, as many that would embed a store do. It is a module of
// its own, to see what an importer's build resolves to: its one purpose is to be
// built and run by CI.
//
//	go -C internal/importer run .
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/hashicorp/memberlist"

	"github.com/replkv/replkv"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

// run has a single member keep the names that memberlist knows.
func run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "replkv-importer-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	db, err := replkv.Open(replkv.Config{Dir: dir})
	if err != nil {
		return err
	}
	defer db.Close()

	list, err := memberlist.Create(config())
	if err != nil {
		return err
	}
	defer list.Shutdown()
	for _, node := range list.Members() {
		if _, err := db.Set(ctx, "members/"+node.Name, []byte(node.Address())); err != nil {
			return err
		}
		item, err := db.Get(ctx, "members/"+node.Name)
		if err != nil || string(item.Value) != node.Address() {
			return fmt.Errorf("Get after Set: %q, %w", item.Value, err)
		}
	}
	return db.Shutdown(ctx)
}

func config() *memberlist.Config {
	c := memberlist.DefaultLocalConfig()
	c.Name = "importer"
	c.BindAddr, c.BindPort = "127.0.0.1", 0
	c.LogOutput = io.Discard
	return c
}
