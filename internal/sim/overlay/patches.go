package overlay

// patch replaces text of a file below GOROOT/src.
type patch struct{ file, old, new string }

var patches = []patch{
	// Hash keys, and all other randomness of a process from its start on.
	{"runtime/rand.go", "\tglobalRand.state.Init(*seed)\n",
		"\t*seed = [32]byte{'r', 'e', 'p', 'l', 'a', 'y'}\n\tglobalRand.state.Init(*seed)\n"},
	{"runtime/rand.go", "\tmp := getg().m\n\tc := &mp.chacha8\n", `	if b := getg().bubble; b != nil {
		return replayNext(&b.rand)
	}
	if mainStarted {
		return replayNext(&replayRand)
	}
	mp := getg().m
	c := &mp.chacha8
`},
	{"runtime/rand.go", "// rand32 is uint32(rand()), called from compiler-generated code.\n", `// replayRand is the state of the random numbers of goroutines in no bubble.
var replayRand uint64

// replayBubbles counts the bubbles that run.
var replayBubbles int32

// replayNext is splitmix64.
//
//go:nosplit
func replayNext(state *uint64) uint64 {
	*state += 0x9e3779b97f4a7c15
	z := *state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// replaySeed is what the stream of a bubble begins with.
func replaySeed() uint64 {
	seed := uint64(1)
	for _, c := range []byte(gogetenv("REPLKV_SIM_SCHEDULE")) {
		seed = seed*31 + uint64(c)
	}
	return seed
}

// rand32 is uint32(rand()), called from compiler-generated code.
`},
	// How many threads there are, and when they are made, depends on real time. They do not
	// draw from that stream, and what is allocated for one does not move what the program
	// allocates: a map with pointers for keys, such as the children of a context, is ranged
	// over in an order that depends on addresses.
	{"runtime/rand.go", "\tmp.cheaprand = rand()\n", "\tmp.cheaprand = bootstrapRand()\n"},
	{"runtime/proc.go", "\tmp := &new(mPadded).m\n",
		"\tmp := (*m)(add(persistentalloc(2*unsafe.Sizeof(mPadded{}), 2048, &memstats.other_sys), mallocHeaderSize))\n"},
	{"runtime/runtime2.go", "\tw := mWeakPointer{m: new(atomic.Pointer[m])}\n",
		"\tw := mWeakPointer{m: (*atomic.Pointer[m])(persistentalloc(goarch.PtrSize, 0, &memstats.other_sys))}\n"},
	{"runtime/proc.go", "func malg(stacksize int32) *g {\n\tnewg := new(g)\n", `func malg(stacksize int32) *g {
	if stacksize >= 16384 { // a thread's own
		size := uintptr(round2(stackSystem + stacksize))
		gp := (*g)(persistentalloc(unsafe.Sizeof(g{}), 0, &memstats.other_sys))
		gp.stack.lo = uintptr(persistentalloc(size, 4096, &memstats.other_sys))
		gp.stack.hi = gp.stack.lo + size
		gp.stackguard0 = gp.stack.lo + stackGuard
		gp.stackguard1 = ^uintptr(0)
		return gp
	}
	newg := new(g)
`},
	// A bubble has a stream of random numbers.
	{"runtime/synctest.go", "\tactive  int // other sources of activity\n", "\tactive  int // other sources of activity\n\trand uint64\n"},
	{"runtime/synctest.go", "\tbubble.now = synctestBaseTime\n", `	bubble.now = synctestBaseTime
	bubble.rand = replaySeed()
	gp.m.p.ptr().schedtick = 0
	replayBubbles++
	defer func() { replayBubbles-- }()
`},
	// Which case a select takes, and which timer of one moment fires first.
	{"runtime/select.go", "\t\tj := cheaprandn(uint32(norder + 1))\n", `		j := cheaprandn(uint32(norder + 1))
		if gp.bubble != nil {
			j = uint32(replayNext(&gp.bubble.rand) >> 32 * uint64(norder+1) >> 32)
		}
`},
	{"runtime/time.go", "\t\t\tt.rand = cheaprand()\n", "\t\t\tt.rand = uint32(replayNext(&getg().bubble.rand) >> 32)\n"},
	// Who waits for a semaphore is found by a tree whose shape is random.
	{"runtime/sema.go", "\ts.ticket = cheaprand() | 1\n", `	s.ticket = cheaprand() | 1
	if b := getg().bubble; b != nil {
		s.ticket = uint32(replayNext(&b.rand)>>32) | 1
	}
`},
	// Packages keep when they were initialized, and count from there on, in bubbles, too.
	{"runtime/time.go", "\treturn time_now()\n", "\treturn 946684800, 0, 0\n"},
	// A mutex's waiter loses its patience after a millisecond, of real time.
	{"runtime/sema.go", "func internal_sync_nanotime() int64 {\n", `func internal_sync_nanotime() int64 {
	if b := getg().bubble; b != nil {
		return b.now
	}
`},
	// Nobody is interrupted because real time has passed, and a system call keeps its
	// processor: not before a bubble runs, either, for it would find another heap.
	{"runtime/proc.go", "func retake(now int64) uint32 {\n", `func retake(now int64) uint32 {
	if now != 0 {
		return 0
	}
`},
	// The scheduler looks into its global queue at each 61st turn: of those in bubbles.
	{"runtime/proc.go", "\tif !inheritTime {\n\t\tmp.p.ptr().schedtick++\n\t}\n",
		"\tif !inheritTime && (replayBubbles == 0 || gp.bubble != nil) {\n\t\tmp.p.ptr().schedtick++\n\t}\n"},
	// crypto/rand.
	{"crypto/internal/sysrand/rand.go", "func Read(b []byte) {\n", `func Read(b []byte) {
	for i := range b {
		b[i] = byte(replayRand() >> 32)
	}
}

//go:linkname replayRand runtime.rand
func replayRand() uint64

func systemRead(b []byte) {
`},
}
