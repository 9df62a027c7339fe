package replkv

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	iofs "io/fs"
	"slices"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/store"
	"github.com/replkv/replkv/store/disk"
)

// identity is who lives in a directory. It lies outside the state, which a
// restore swaps.
type identity struct {
	cluster     [16]byte // which cluster; checked on every peer RPC. Zero: it has yet to join one
	token       [16]byte // of ClusterToken
	incarnation [16]byte // of this directory
	// begun: the first log entry is durable, or the cluster was joined.
	// InitialCluster and Join count no more.
	begun bool
	// settled: this directory may vote. Not yet, it might stand in for one that
	// has voted and was lost (see proof).
	settled bool
	// lost: it has lost what it had acknowledged, and may not vote before it has
	// caught up, however often it is opened.
	lost bool
	// since is the index of a configuration by which it was in: that of the first
	// entry, of the founding, or of the one that let it join. 0: in none yet.
	since uint64
	// founded: its cluster was founded with the data of another, and so was this
	// directory, at since, which is where the cluster's history begins.
	founded bool
	// announced: an opening of the present start may have been proposed. Starts of
	// which none was need not be remembered.
	announced bool
	refused   refusal // by the cluster, for ever
	id        string
	// starts of this directory: the newest that is known to be known to the
	// cluster, and all since; the last is the present one. A directory that was
	// copied, or restored from a backup, lacks one that the cluster knows.
	starts []command.Start
}

// refusal is why a cluster wants nothing more of a directory.
type refusal byte

const (
	notRefused refusal = iota
	refusedRemoved
	refusedStale
)

const (
	identityName    = "identity"
	identityMagic   = "replkvI1"
	identityVersion = 1

	identityBegun     = 1
	identitySettled   = 2
	identityLost      = 4
	identityAnnounced = 8
	identityFounded   = 16
)

// append encodes the identity:
//
//	magic (8) | version | flags | refused | cluster (16) | token (16) | incarnation (16) | since (8) |
//	n | {number (8) | boot (8)} n | id length | id | CRC-32C (4)
func (d *identity) append(b []byte) []byte {
	flags := bit(d.begun, identityBegun) | bit(d.settled, identitySettled) | bit(d.lost, identityLost) | bit(d.announced, identityAnnounced) | bit(d.founded, identityFounded)
	b = append(b, identityMagic...)
	b = append(b, identityVersion, flags, byte(d.refused))
	b = append(b, d.cluster[:]...)
	b = append(b, d.token[:]...)
	b = append(b, d.incarnation[:]...)
	b = binary.LittleEndian.AppendUint64(b, d.since)
	b = append(b, byte(len(d.starts)))
	for _, s := range d.starts {
		b = binary.LittleEndian.AppendUint64(b, s.Number)
		b = binary.LittleEndian.AppendUint64(b, s.Boot)
	}
	b = append(b, byte(len(d.id)))
	b = append(b, d.id...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

func bit(set bool, flag byte) byte {
	if set {
		return flag
	}
	return 0
}

func decodeIdentity(b []byte) (*identity, error) {
	const fixed = 8 + 3 + 3*16 + 8 + 1 // without starts and id
	if len(b) < fixed+1+4 || string(b[:8]) != identityMagic {
		return nil, fmt.Errorf("%w: the identity file is not one of replkv's", ErrCorrupt)
	}
	sum := binary.LittleEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(b[:len(b)-4], crc32.MakeTable(crc32.Castagnoli)) != sum {
		return nil, fmt.Errorf("%w: the identity file's checksum does not match", ErrCorrupt)
	}
	if b[8] != identityVersion {
		return nil, fmt.Errorf("%w: identity file version %d, this one reads %d", ErrFormatTooNew, b[8], identityVersion)
	}
	d := &identity{begun: b[9]&identityBegun != 0, settled: b[9]&identitySettled != 0, refused: refusal(b[10]),
		lost: b[9]&identityLost != 0, announced: b[9]&identityAnnounced != 0,
		founded: b[9]&identityFounded != 0}
	copy(d.cluster[:], b[11:])
	copy(d.token[:], b[27:])
	copy(d.incarnation[:], b[43:])
	d.since = binary.LittleEndian.Uint64(b[59:])
	n := int(b[fixed-1])
	if len(b) < fixed+16*n+1+4 || len(b) != fixed+16*n+1+int(b[fixed+16*n])+4 {
		return nil, fmt.Errorf("%w: the identity file has a wrong length", ErrCorrupt)
	}
	for i := range n {
		d.starts = append(d.starts, command.Start{Number: binary.LittleEndian.Uint64(b[fixed+16*i:]), Boot: binary.LittleEndian.Uint64(b[fixed+16*i+8:])})
	}
	d.id = string(b[fixed+16*n+1 : len(b)-4])
	return d, nil
}

// present is the start that this process is.
func (d *identity) present() command.Start { return d.starts[len(d.starts)-1] }

// nextStart counts this start.
func (d *identity) nextStart() error {
	var boot [8]byte
	if _, err := rand.Read(boot[:]); err != nil {
		return err
	}
	next := command.Start{Number: 1, Boot: binary.LittleEndian.Uint64(boot[:])}
	if n := len(d.starts); n > 0 {
		next.Number = d.present().Number + 1
		switch {
		case !d.announced: // nobody can have heard of the one before
			d.starts = d.starts[:n-1]
		case n == command.MaxStarts:
			// So many in a row that were announced and did not come back. If just the
			// one that is forgotten became known, this directory is refused, which is
			// the safe side.
			d.starts = slices.Delete(d.starts, 1, 2)
		}
	}
	d.starts, d.announced = append(d.starts, next), false
	return nil
}

// clusterID is fixed at genesis from what all first members must agree on: two
// members with different tables would write different entries at (1, 1) that
// raft takes for equal.
func clusterID(token string, members []Member) [16]byte {
	return clusterHash("replkv cluster id v1", token, members)
}

// foundedID is the id of a cluster that is founded with data: the founding's entry has
// no other peer than those who founded with the same.
func foundedID(token string, members []Member, source [16]byte, st store.State) [16]byte {
	return clusterHash("replkv founded cluster id v1", token, members, string(source[:]), string(st.Chain[:]))
}

func clusterHash(format, token string, members []Member, more ...string) (id [16]byte) {
	members = slices.SortedFunc(slices.Values(members), func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	h := sha256.New()
	field := func(s string) {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(s))))
		h.Write([]byte(s))
	}
	field(format)
	field(token)
	for _, m := range members {
		field(m.ID)
		field(m.Addr)
		field("voter")
	}
	for _, s := range more {
		field(s)
	}
	copy(id[:], h.Sum(nil))
	return id
}

// origin is the index of what all first members of the cluster have from the start, as
// far as this one can tell: who holds no more than that has acknowledged nothing.
func (d *identity) origin() uint64 {
	if d.founded {
		return d.since
	}
	return 1
}

func tokenHash(token string) (t [16]byte) {
	sum := sha256.Sum256([]byte("replkv token v1\x00" + token))
	copy(t[:], sum[:])
	return t
}

// openIdentity reads who lives in cfg.Dir and counts the start; in an empty
// directory it settles who will.
func openIdentity(cfg *Config) (*identity, error) {
	fs := cfg.edges.FS
	name := fs.PathJoin(cfg.Dir, identityName)
	b, err := disk.ReadFile(fs, name, 4096)
	var d *identity
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		if d, err = newIdentity(cfg); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	default:
		if d, err = decodeIdentity(b); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if err := d.check(cfg); err != nil {
			return nil, err
		}
		if d.founded { // a crash may have left it
			if err := fs.RemoveAll(fs.PathJoin(cfg.Dir, foundingName)); err != nil {
				return nil, err
			}
		}
		if d.begun && (len(cfg.InitialCluster) > 0 || len(cfg.Join) > 0) {
			cfg.Logger.Info("the directory has a cluster already: InitialCluster and Join only tell where members may be", "dir", cfg.Dir)
		}
	}
	if err := d.nextStart(); err != nil {
		return nil, err
	}
	return d, d.save(cfg)
}

func (d *identity) save(cfg *Config) error {
	fs := cfg.edges.FS
	if err := disk.WriteFile(fs, fs.PathJoin(cfg.Dir, identityName), d.append(nil)); err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	return nil
}

// newIdentity settles who an empty directory belongs to.
func newIdentity(cfg *Config) (*identity, error) {
	fs := cfg.edges.FS
	names, err := fs.List(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if slices.Contains(names, foundingName) {
		return nil, fmt.Errorf("%w: a Restore into directory %s was not finished: begin it anew, or empty the directory", ErrInvalidConfig, cfg.Dir)
	}
	for _, n := range names {
		if n != "LOCK" && n != identityName+".tmp" {
			return nil, fmt.Errorf("%w: directory %s holds %q and is not replkv's: give the store a directory of its own", ErrInvalidConfig, cfg.Dir, n)
		}
	}
	if cfg.Addr != "" && len(cfg.InitialCluster) == 0 && len(cfg.Join) == 0 {
		return nil, fmt.Errorf("%w: directory %s is empty and there is neither InitialCluster nor Join: who are the members?", ErrInvalidConfig, cfg.Dir)
	}
	d := &identity{id: cfg.ID, token: tokenHash(cfg.ClusterToken)}
	if len(cfg.Join) == 0 {
		d.cluster = clusterID(cfg.ClusterToken, cfg.firstMembers())
	}
	_, err = rand.Read(d.incarnation[:])
	return d, err
}

// firstMembers is the configuration at genesis.
func (c *Config) firstMembers() []Member {
	if c.Addr == "" {
		return []Member{{ID: c.ID, Addr: localAddr}}
	}
	return c.InitialCluster
}

// check compares the directory's owner with the configuration.
func (d *identity) check(cfg *Config) error {
	if d.id != cfg.ID {
		return fmt.Errorf("%w: directory %s belongs to member %q, not %q", ErrInvalidConfig, cfg.Dir, d.id, cfg.ID)
	}
	if d.token != tokenHash(cfg.ClusterToken) {
		return fmt.Errorf("%w: directory %s was made with another ClusterToken", ErrWrongCluster, cfg.Dir)
	}
	switch d.refused {
	case refusedRemoved:
		return fmt.Errorf("%w: directory %s: empty it before the member joins anew", ErrRemoved, cfg.Dir)
	case refusedStale:
		return fmt.Errorf("%w: directory %s: if the right one is lost, remove the member, empty the directory, and let it join anew", ErrStaleIdentity, cfg.Dir)
	}
	if d.begun {
		return nil
	}
	var want [16]byte // of a joiner
	if len(cfg.Join) == 0 {
		want = clusterID(cfg.ClusterToken, cfg.firstMembers())
	}
	if want != d.cluster {
		return fmt.Errorf("%w: directory %s was begun with another InitialCluster, or Join", ErrWrongCluster, cfg.Dir)
	}
	return nil
}
