package load

import (
	"fmt"
	"math/rand/v2"
)

// Data is what the callers write and read: keys of 16 bytes, and values that do
// not compress and differ from each other.
type Data struct {
	Keys      []string // made beforehand: formatting is not what is measured
	ValueSize int
	noise     []byte
}

// noiseBytes is much more than an engine compresses at a time: with 64 KiB, whose
// parts repeat within a block, values did compress.
const noiseBytes = 8 << 20

// NewData makes n keys, and values of size bytes.
func NewData(n, size int) *Data {
	d := &Data{Keys: make([]string, n), ValueSize: size, noise: make([]byte, size+noiseBytes)}
	for i := range d.Keys {
		d.Keys[i] = fmt.Sprintf("key-%012d", i)
	}
	rng := rand.New(rand.NewPCG(1, uint64(size)))
	for i := range d.noise {
		d.noise[i] = byte(rng.Uint32())
	}
	return d
}

// Key is one of all keys, each equally likely.
func (d *Data) Key(rng *rand.Rand) string { return d.Keys[rng.IntN(len(d.Keys))] }

// Value is not to be changed.
func (d *Data) Value(rng *rand.Rand) []byte {
	at := rng.IntN(len(d.noise) - d.ValueSize)
	return d.noise[at : at+d.ValueSize : at+d.ValueSize]
}
