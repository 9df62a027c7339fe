//go:build linux

package chaos

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"
)

// imageBytes is the size of a member's disk.
const imageBytes = 256 << 20

// makeDisk makes and mounts the file system of a member.
func (n *node) makeDisk() error {
	f, err := os.Create(n.image)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(imageBytes), f.Close(), os.Mkdir(n.mnt, 0o755)); err != nil {
		return err
	}
	if _, err := run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,nodiscard", n.image); err != nil {
		return err
	}
	return n.mount()
}

func (n *node) mount() error {
	if n.l.over.Load() {
		return nil
	}
	_, err := run("mount", "-o", "loop", n.image, n.mnt)
	return err
}

// device is the major:minor of the loop device below the disk.
func (n *node) device() (string, error) {
	out, err := run("losetup", "-j", n.image, "-n", "-O", "MAJ:MIN")
	if out = strings.TrimSpace(out); err == nil && out == "" {
		err = fmt.Errorf("no loop device of %s", n.image)
	}
	return out, err
}

// EXT4_IOC_SHUTDOWN with NOLOGFLUSH: the file system stops at once, and forgets
// what it has not written, its journal's newest transactions included.
const (
	ext4Shutdown = 0x8004587d
	noLogFlush   = 2
)

// cutPower does to the disk what a power loss does. The member must be frozen: an
// fdatasync that is under way answers success at times, though what it should have
// written is gone.
func (n *node) cutPower() error {
	d, err := os.Open(n.mnt)
	if err != nil {
		return err
	}
	defer d.Close()
	flags := uint32(noLogFlush)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, d.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		return fmt.Errorf("EXT4_IOC_SHUTDOWN: %w", errno)
	}
	return nil
}

// reboot mounts the disk anew, which replays the journal. The member must be
// down.
func (n *node) reboot() error { return errors.Join(unmount(n.mnt), n.mount()) }

func (n *node) ballast() string { return filepath.Join(n.mnt, "ballast") }

// fill leaves no free block.
func (n *node) fill() error {
	f, err := os.Create(n.ballast())
	if err != nil {
		return err
	}
	defer f.Close()
	size := int64(0)
	for step := int64(64 << 20); step >= 4096; {
		switch err := syscall.Fallocate(int(f.Fd()), 0, size, step); err {
		case nil:
			size += step
		case syscall.ENOSPC:
			step /= 2
		case syscall.EINTR:
		default:
			return err
		}
	}
	return nil
}

// unfill frees the blocks, which can be used again when the journal says so.
func (n *node) unfill() error {
	err := os.Remove(n.ballast())
	_, syncErr := run("sync", "-f", n.mnt)
	return errors.Join(err, syncErr)
}
