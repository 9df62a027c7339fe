package cluster

import (
	"slices"

	"github.com/replkv/replkv/store/disk"
)

// Files are those below dir that have something in them, in order.
func Files(fs *disk.Mem, dir string) (out []string) {
	names, _ := fs.List(dir)
	slices.Sort(names)
	for _, base := range names {
		name := fs.PathJoin(dir, base)
		info, err := fs.Stat(name)
		switch {
		case err != nil:
		case info.IsDir():
			out = append(out, Files(fs, name)...)
		case info.Size() > 0:
			out = append(out, name)
		}
	}
	return out
}
