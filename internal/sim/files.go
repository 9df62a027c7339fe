package sim

import (
	"errors"
	"io"

	"github.com/replkv/replkv/store/disk"
)

// size of a file; -1 if there is none.
func size(fs *disk.Mem, name string) int64 {
	info, err := fs.Stat(name)
	if err != nil {
		return -1
	}
	return info.Size()
}

func readFile(fs *disk.Mem, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}

func writeFile(fs *disk.Mem, name string, b []byte) error {
	f, err := fs.Create(name, "")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}
