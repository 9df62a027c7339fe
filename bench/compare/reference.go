package main

// reference is what a peer reached against one Pebble that syncs each write, in
// ops/s of one run on 2 cores, when the bars were set: three members in one
// process, real TCP on loopback, keys of 16 bytes, values of 256. Ratios carry
// over to other machines, absolute numbers do not.
type reference struct {
	workload, system string
	ops              float64
	pebble           float64 // in the same run
}

const (
	pebbleSet1, pebbleSet64, pebbleSet512 = 3592, 67_800, 129_000
	pebbleGet64, pebbleGet512             = 537_000, 508_000
)

// references has no row for spread reads, and none for reads of handraft, whose
// reads were measured tuned. What is mixed is compared with Pebble's sets.
var references = []reference{
	{"set1", "etcd", 1473, pebbleSet1},
	{"set64", "etcd", 8200, pebbleSet64},
	{"set512", "etcd", 13_000, pebbleSet512},
	{"get64", "etcd", 54_900, pebbleGet64},
	{"get512", "etcd", 59_300, pebbleGet512},
	{"grpcset64", "etcd", 5400, pebbleSet64},
	{"grpcget64", "etcd", 12_500, pebbleGet64},
	{"mixed64", "etcd", 8500, pebbleSet64},
	{"set1", "dragonboat", 810, pebbleSet1},
	{"set64", "dragonboat", 17_800, pebbleSet64},
	{"set512", "dragonboat", 51_100, pebbleSet512},
	{"get64", "dragonboat", 58_800, pebbleGet64},
	{"get512", "dragonboat", 91_500, pebbleGet512},
	{"mixed64", "dragonboat", 12_000, pebbleSet64},
	{"set1", "handraft", 633, pebbleSet1},
	{"set64", "handraft", 6600, pebbleSet64},
	{"set512", "handraft", 11_800, pebbleSet512},
}

// pebbleWorkload is which row of Pebble a reference is relative to.
var pebbleWorkload = map[string]string{"set1": "set1", "set64": "set64", "set512": "set512", "get64": "get64", "get512": "get512",
	"grpcset64": "set64", "grpcget64": "get64", "mixed64": "set64"}

const (
	// requiredShare of its reference ratio is what a peer must reach, else it
	// was set up badly or the machine was disturbed.
	requiredShare = 0.8
	// requiredRounds make a median.
	requiredRounds = 5
)
