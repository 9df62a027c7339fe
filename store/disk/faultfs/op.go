package faultfs

import "strings"

// Kind is a set of kinds of operations.
type Kind uint16

// The kinds. Closing a file, prefetching and asking for the disk's usage are
// none: they pass through.
const (
	Create      Kind = 1 << iota
	OpenWrite        // OpenReadWrite, which may create the file
	Reuse            // ReuseForWrite
	Write            // Write, WriteAt
	Preallocate      //
	Sync             // Sync, SyncData, SyncTo of a file
	SyncDir          // Sync of a directory
	Rename           //
	Remove           // Remove, RemoveAll
	Link             //
	Mkdir            //
	Lock             //
	Read             // Open, Read, ReadAt, Stat, List

	Any      = 2*Read - 1
	Mutating = Any &^ Read
	Syncs    = Sync | SyncDir
)

// Op is an operation that is about to happen.
type Op struct {
	Kind Kind
	// Path is of the file or directory; of a Rename, Link or Reuse, the new name.
	Path string
	// N is the operation's number among the mutating ones, from 1; 0 of a Read.
	N int
}

// Is says whether the operation is of one of the kinds and its path contains
// part.
func (o Op) Is(kinds Kind, part string) bool {
	return o.Kind&kinds != 0 && strings.Contains(o.Path, part)
}
