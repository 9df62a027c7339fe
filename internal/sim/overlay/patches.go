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
	// A mutex's waiter loses its patience after a millisecond, of real time.
	{"runtime/sema.go", "func internal_sync_nanotime() int64 {\n", `func internal_sync_nanotime() int64 {
	if b := getg().bubble; b != nil {
		return b.now
	}
`},
	// While a bubble runs, nobody is interrupted because real time has passed, and a system
	// call keeps its processor.
	{"runtime/proc.go", "func retake(now int64) uint32 {\n", `func retake(now int64) uint32 {
	if replayBubbles > 0 {
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
