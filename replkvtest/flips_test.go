package replkvtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/sim/cluster"
	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/raftlog"
)

// flipped is a cluster at rest in which member 1 and 0 acknowledged what member
// 2, stopped before, lacks.
type flipped struct {
	disks []*disk.Mem
	files []string // of member 1
	want  map[string][]byte
	at    map[string]uint64 // no entry above has the key
	last  uint64            // the last entry in member 1's log
	floor uint64            // the newest that its floor knows: what is younger may be lost unnoticed
	mu    sync.Mutex
	table map[string]map[string]int // kind of file -> outcome -> flips
}

const flipVictim, flipBehind = 1, 2

// TestBitFlips flips single bits in every file of a stopped member. It must
// notice, or it does not matter: no member serves a wrong value, and the cluster
// loses no acknowledged write, also while only the damaged one and one that
// lacks the newest writes are up; but what the floor does not know yet, as after a crash
// within a second. The table tells what became of each flip.
func TestBitFlips(t *testing.T) {
	flips := 60
	if testing.Short() {
		flips = 3
	}
	first := 0
	if n, err := strconv.Atoi(os.Getenv("REPLKV_FLIPS")); err == nil {
		flips = n // for a long run; a few hundred at a time, since engines that refuse keep their memory
	}
	if n, err := strconv.Atoi(os.Getenv("REPLKV_FLIPS_FROM")); err == nil {
		first = n
	}
	for name, end := range map[string]func(*Cluster, int){"stopped": (*Cluster).Stop, "crashed": func(*Cluster, int) {}} {
		t.Run(name, func(t *testing.T) {
			f := restingCluster(t, end)
			t.Run("flip", func(t *testing.T) {
				for i := first; i < first+flips/2; i++ {
					t.Run(strconv.Itoa(i), func(t *testing.T) {
						t.Parallel()
						f.try(t, i)
					})
				}
			})
			f.print(t)
		})
	}
}

func (f *flipped) print(t *testing.T) {
	t.Logf("the log ends at %d, the floor knows %d", f.last, f.floor)
	for _, kind := range slices.Sorted(maps.Keys(f.table)) {
		for _, outcome := range slices.Sorted(maps.Keys(f.table[kind])) {
			t.Logf("%-18s %-44s %5d", kind, outcome, f.table[kind][outcome])
		}
	}
}

func fastElections(_ int, cfg *replkv.Config) { cfg.ElectionTimeout = 60 * time.Millisecond }

// restingCluster ends the last two members with end, and keeps what was synced.
func restingCluster(t *testing.T, end func(*Cluster, int)) *flipped {
	c := NewCluster(t, 3, WithConfig(fastElections))
	f := &flipped{want: map[string][]byte{}, at: map[string]uint64{}, table: map[string]map[string]int{}}
	set := func(n int) {
		for range n {
			key := fmt.Sprintf("key-%d", len(f.want))
			value := bytes.Repeat([]byte(key+"."), 20+len(f.want)%50)
			if _, err := c.DB(0).Set(t.Context(), key, value); err != nil {
				t.Fatal(err)
			}
			f.want[key], f.at[key] = value, c.DB(0).Status().LastLogIndex
		}
	}
	set(150)
	if err := c.CheckEqual(); err != nil {
		t.Fatal(err)
	}
	c.Stop(flipVictim) // so that its state has tables of two flushes
	c.Restart(flipVictim)
	c.WaitReady()
	c.Stop(flipBehind)
	set(100)
	f.last = c.DB(flipVictim).Status().LastLogIndex
	end(c, flipVictim)
	end(c, 0)
	for _, m := range c.in.Members {
		f.disks = append(f.disks, disk.CrashHard(m.FS))
	}
	f.files = cluster.Files(f.disks[flipVictim], "data")
	floor, _, err := raftlog.OpenFloor(disk.CrashHard(f.disks[flipVictim]), "data/floor")
	if err != nil {
		t.Fatal(err)
	}
	f.floor = floor.State().Index
	if err := floor.Close(); err != nil {
		t.Fatal(err)
	}
	return f
}

// flip changes one bit of a file.
func flip(fs disk.FS, name string, rng *rand.Rand) error {
	f, err := fs.Open(name)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
	w, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return errors.Join(err, w.Sync(), w.Close())
}

var digits = regexp.MustCompile(`[0-9]+`)

// kindOf names a file without its number.
func kindOf(name string) string {
	return digits.ReplaceAllString(path.Join(path.Base(path.Dir(name)), path.Base(name)), "N")
}

func (f *flipped) try(t *testing.T, i int) {
	name := f.files[i%len(f.files)]
	c := assemble(t, 3, WithConfig(fastElections))
	for j, m := range c.in.Members {
		m.FS = disk.CrashHard(f.disks[j])
	}
	if err := flip(c.in.Members[flipVictim].FS, name, rand.New(rand.NewPCG(uint64(i), 7))); err != nil {
		t.Fatal(err)
	}
	outcome := f.outcome(c)
	if t.Failed() {
		t.Logf("flip %d, in %s: %s", i, name, outcome)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.table[kindOf(name)] == nil {
		f.table[kindOf(name)] = map[string]int{}
	}
	f.table[kindOf(name)][outcome]++
}

// outcome brings the cluster up, the damaged member first, and says what became
// of it.
func (f *flipped) outcome(c *Cluster) string {
	t, v := c.t, c.in.Members[flipVictim]
	err := c.in.Open(flipVictim)
	told := "nothing is missing"
	if err != nil {
		v.Out, told = true, "refused to open: "+sentinel(err)
	} else if f.lost(c) {
		told = younger
	}
	c.open(flipBehind)
	if err == nil {
		f.alone(c)
		if s := v.DB().Status(); !s.MayVote && s.Err == nil {
			told = "no vote until it has caught up"
		}
	}
	c.open(0)
	for _, i := range []int{0, flipBehind} {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		if err := c.DB(i).Ready(ctx); err != nil {
			t.Errorf("member %d is not ready: %v", i, err)
		}
		if !f.check(ctx, t, i, c.DB(i)) {
			t.Errorf("member %d does not answer", i)
		}
		cancel()
	}
	if !v.Out && f.stopped(c) {
		v.Out, told = true, "stopped: "+sentinel(v.DB().Err())
		v.DB().Close()
	}
	return told
}

// younger is what became of a log that has lost its end, of which the floor did not know
// yet.
const younger = "younger, lost"

// lost says whether the damaged member, which nobody has sent anything yet, may vote
// although its log has lost its end. The floor must not have known that.
func (f *flipped) lost(c *Cluster) bool {
	s := c.DB(flipVictim).Status()
	if s.Err != nil || !s.MayVote || s.LastLogIndex >= f.last {
		return false
	}
	if s.LastLogIndex < f.floor {
		c.t.Errorf("the log ends at %d, not at %d, the floor knew of %d, and the member may vote", s.LastLogIndex, f.last, f.floor)
	}
	return true
}

// alone looks at the damaged member and the one that lacks writes, without the
// third: what they serve must be right, or they serve nothing.
func (f *flipped) alone(c *Cluster) {
	v := c.DB(flipVictim)
	for end := time.Now().Add(time.Second); time.Now().Before(end) && v.Err() == nil; {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		err := c.DB(flipBehind).Ready(ctx)
		if err == nil {
			f.check(ctx, c.t, flipBehind, c.DB(flipBehind))
		}
		cancel()
		if err == nil {
			return
		}
	}
}

// stopped reads all that the damaged member has, and says whether it stopped
// over it.
func (f *flipped) stopped(c *Cluster) bool {
	v := c.DB(flipVictim)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := v.Ready(ctx); err == nil {
		f.check(ctx, c.t, flipVictim, v)
	}
	return v.Err() != nil
}

// check compares what a member serves, and says whether it served all. Errors are
// no answer, and so no lie.
func (f *flipped) check(ctx context.Context, t testing.TB, i int, db *replkv.DB) bool {
	for key, want := range f.want {
		item, err := db.Get(ctx, key)
		switch {
		case errors.Is(err, replkv.ErrNotFound) && f.at[key] > f.floor: // no promise
		case errors.Is(err, replkv.ErrNotFound):
			t.Errorf("member %d lost %s", i, key)
			return false
		case err != nil:
			return false
		case !bytes.Equal(item.Value, want):
			t.Errorf("member %d serves a wrong value of %s", i, key)
			return false
		}
	}
	return true
}

// sentinel names what an error is.
func sentinel(err error) string {
	for _, s := range []error{replkv.ErrCorrupt, replkv.ErrFormatTooNew, replkv.ErrStaleIdentity, replkv.ErrWrongCluster, replkv.ErrInvalidConfig} {
		if errors.Is(err, s) {
			return s.Error()
		}
	}
	text := err.Error()
	if at := strings.LastIndex(text, ": "); at >= 0 {
		text = text[at+2:]
	}
	return "unnamed error: " + text
}
