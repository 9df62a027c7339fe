//go:build linux

package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// This kernel may have no netem, so packets are delayed here: a process in the
// member's network takes what the member sends from a tun device, keeps each
// packet for a while, and sends it on through eth0. Jitter brings them out of
// order. When the process ends, its device and the routes to it are gone.

const delayDevice = "slow0"

// delayed has a delay process.
type delayed struct {
	n            *node
	base, jitter time.Duration
	clients      bool // also what goes to clients
	cmd          *exec.Cmd
	ended        chan struct{}
}

func someDelay(n *node, rng *rand.Rand) fault {
	base := between(rng, 5*ms, 150*ms)
	return &delayed{n: n, base: base, jitter: between(rng, 0, base), clients: rng.IntN(2) == 0}
}

func (f *delayed) begin() error {
	f.cmd, f.ended = f.n.child(os.Args[0], fmt.Sprint(f.base.Microseconds()), fmt.Sprint(f.jitter.Microseconds())), make(chan struct{})
	f.cmd.Env = append(os.Environ(), roleEnv+"=delay")
	f.cmd.Stderr = os.Stderr
	if err := launch(f.cmd, func(error) { close(f.ended) }); err != nil {
		f.cmd = nil
		return err
	}
	// Halves of the network are more specific than eth0's own route.
	halves := []string{".0/25"}
	if f.clients {
		halves = append(halves, ".128/25")
	}
	src := fmt.Sprintf("%s.%d", f.n.l.subnet, f.n.id)
	return eventually(3*time.Second, func() error {
		for _, half := range halves {
			if _, err := f.n.inside("ip", "route", "replace", f.n.l.subnet+half, "dev", delayDevice, "src", src); err != nil {
				return err
			}
		}
		return nil
	})
}

func (f *delayed) end() error {
	if f.cmd != nil {
		f.cmd.Process.Kill()
		<-f.ended
	}
	return nil
}

// delay is the life of a delay process.
func delay(args []string) int {
	if err := pump(args); err != nil {
		fmt.Fprintln(os.Stderr, "delay:", err)
	}
	return 1
}

func pump(args []string) error {
	base, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	jitter, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	tun, err := openTun()
	if err != nil {
		return err
	}
	wire, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_RAW) // with the header that we give
	if err != nil {
		return err
	}
	if err := syscall.SetsockoptString(wire, syscall.SOL_SOCKET, syscall.SO_BINDTODEVICE, "eth0"); err != nil {
		return err
	}
	for {
		packet := make([]byte, 2048)
		n, err := syscall.Read(tun, packet)
		if err != nil {
			return err
		}
		if packet = packet[:n]; n < 20 || packet[0]>>4 != 4 {
			continue
		}
		to := syscall.SockaddrInet4{Addr: [4]byte(packet[16:20])}
		time.AfterFunc(time.Duration(base+rand.IntN(jitter+1))*time.Microsecond, func() {
			syscall.Sendto(wire, packet, 0, &to) // what fails is lost, as on a network
		})
	}
}

func openTun() (int, error) {
	fd, err := syscall.Open("/dev/net/tun", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	var req [40]byte // struct ifreq
	copy(req[:], delayDevice)
	*(*uint16)(unsafe.Pointer(&req[syscall.IFNAMSIZ])) = syscall.IFF_TUN | syscall.IFF_NO_PI
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TUNSETIFF, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return 0, fmt.Errorf("TUNSETIFF: %w", errno)
	}
	_, err = run("ip", strings.Fields("link set "+delayDevice+" up")...)
	return fd, err
}
