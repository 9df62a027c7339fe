package sim

import "slices"

// profile says what harm a nemesis does, and how often: weights by the names of harms.
type profile struct {
	name    string
	weights map[string]int // nil: everything
}

func (p *profile) weight(h harm) int {
	if p.weights == nil {
		return h.weight
	}
	return p.weights[h.name]
}

// has says whether there is harm of that name.
func (p *profile) has(name string) bool { return p.weights == nil || p.weights[name] > 0 }

// A seed picks one of these, so that some runs have one kind of harm only.
var profiles = []profile{
	{"crashes", map[string]int{"crash": 6, "crash all": 1, "crash at an operation": 4, "restart": 1}},
	{"partitions", map[string]int{"partition": 3, "cut off": 3, "ring": 2, "cut one way": 3, "reset": 2, "stall": 3, "lag": 3}},
	{"slow network", map[string]int{"delay": 4, "narrow": 2, "reset": 3, "cut off": 1}},
	{"crashes and partitions", map[string]int{"crash": 4, "crash at an operation": 2, "partition": 2, "cut off": 2, "ring": 1, "cut one way": 2, "crash all": 1, "restart": 1, "stall": 1, "lag": 1}},
	{"disks", map[string]int{"slow disk": 3, "failing disk": 3, "flip": 4, "crash": 2, "crash at an operation": 2, "clock": 1}},
	{"members", map[string]int{"join": 4, "non-voter": 4, "remove": 4, "transfer": 3, "crash": 2, "cut off": 2, "partition": 1}},
	{"snapshots", map[string]int{"snapshots": 4, "crash": 2, "partition": 2, "cut off": 3, "duplicate": 2, "remove": 1, "join": 1}},
	{"duplicates", map[string]int{"duplicate": 6, "cut off": 2, "cut one way": 2, "crash": 2, "delay": 1, "transfer": 1, "snapshots": 1}},
	{"everything", nil},
	{"everything, again", nil},
}

func profileOf(name string) (profile, bool) {
	i := slices.IndexFunc(profiles, func(p profile) bool { return p.name == name })
	if i < 0 {
		return profile{}, false
	}
	return profiles[i], true
}
