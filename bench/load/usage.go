package load

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// used is what the process has used so far. What the platform does not tell is 0.
type used struct {
	cpu     time.Duration // user and system
	machine time.Duration // what all processes used, and what the hypervisor took
	written int64         // bytes that go to disk
	mallocs uint64
	peak    int64 // bytes of resident memory, since resetPeak
}

func usage() used {
	var ru syscall.Rusage
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	u := used{machine: MachineCPU(), mallocs: ms.Mallocs,
		written: procField("/proc/self/io", "write_bytes:"), peak: procField("/proc/self/status", "VmHWM:") << 10}
	if syscall.Getrusage(syscall.RUSAGE_SELF, &ru) == nil {
		u.cpu = time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
	}
	return u
}

// resetPeak makes the kernel forget the peak of resident memory. Where it cannot,
// the peak is that since the start.
func resetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// MachineCPU is the time that the machine's processors have been busy so far, or
// taken by a hypervisor, all together; 0 if the platform does not tell.
func MachineCPU() time.Duration {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return busy(bytes.Fields(line))
}

// busy adds up the first line of /proc/stat: cpu user nice system idle iowait irq
// softirq steal, in hundredths of a second.
func busy(fields [][]byte) time.Duration {
	const idle, iowait, steal = 4, 5, 8
	if len(fields) <= steal || string(fields[0]) != "cpu" {
		return 0
	}
	var sum int64
	for i := 1; i <= steal; i++ {
		if n, err := strconv.ParseInt(string(fields[i]), 10, 64); err == nil && i != idle && i != iowait {
			sum += n
		}
	}
	return time.Duration(sum) * 10 * time.Millisecond
}

// procField returns the number behind name in a file of /proc, 0 if there is
// none.
func procField(file, name string) int64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			if f := bytes.Fields(rest); len(f) > 0 {
				n, _ := strconv.ParseInt(string(f[0]), 10, 64)
				return n
			}
		}
	}
	return 0
}
