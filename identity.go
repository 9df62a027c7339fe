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

	"github.com/replkv/replkv/store/disk"
)

// identity is who lives in a directory. It lies outside the state, which a
// restore swaps.
type identity struct {
	cluster     [16]byte // which cluster; checked on every peer RPC
	token       [16]byte // of ClusterToken
	incarnation [16]byte // of this directory
	start       uint64   // how often it was opened
	genesis     bool     // the first log entry is durable
	id          string
}

const (
	identityName    = "identity"
	identityMagic   = "replkvI1"
	identityVersion = 1
)

// append encodes the identity:
//
//	magic (8) | version | genesis | cluster (16) | token (16) | incarnation (16) | start (8) | id length | id | CRC-32C (4)
func (d *identity) append(b []byte) []byte {
	b = append(b, identityMagic...)
	b = append(b, identityVersion, 0)
	if d.genesis {
		b[len(b)-1] = 1
	}
	b = append(b, d.cluster[:]...)
	b = append(b, d.token[:]...)
	b = append(b, d.incarnation[:]...)
	b = binary.LittleEndian.AppendUint64(b, d.start)
	b = append(b, byte(len(d.id)))
	b = append(b, d.id...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

func decodeIdentity(b []byte) (*identity, error) {
	const fixed = 8 + 2 + 3*16 + 8 + 1
	if len(b) < fixed+4 || string(b[:8]) != identityMagic {
		return nil, fmt.Errorf("%w: the identity file is not one of replkv's", ErrCorrupt)
	}
	sum := binary.LittleEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(b[:len(b)-4], crc32.MakeTable(crc32.Castagnoli)) != sum {
		return nil, fmt.Errorf("%w: the identity file's checksum does not match", ErrCorrupt)
	}
	if b[8] != identityVersion {
		return nil, fmt.Errorf("%w: identity file version %d, this one reads %d", ErrFormatTooNew, b[8], identityVersion)
	}
	d := &identity{genesis: b[9] == 1}
	copy(d.cluster[:], b[10:])
	copy(d.token[:], b[26:])
	copy(d.incarnation[:], b[42:])
	d.start = binary.LittleEndian.Uint64(b[58:])
	if len(b) != fixed+int(b[66])+4 {
		return nil, fmt.Errorf("%w: the identity file has a wrong length", ErrCorrupt)
	}
	d.id = string(b[fixed : len(b)-4])
	return d, nil
}

// clusterID is fixed at genesis from what all first members must agree on: two
// members with different tables would write different entries at (1, 1) that
// raft takes for equal.
func clusterID(token string, members []Member) (id [16]byte) {
	members = slices.SortedFunc(slices.Values(members), func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	h := sha256.New()
	field := func(s string) {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(s))))
		h.Write([]byte(s))
	}
	field("replkv cluster id v1")
	field(token)
	for _, m := range members {
		field(m.ID)
		field(m.Addr)
		field("voter")
	}
	copy(id[:], h.Sum(nil))
	return id
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
		if d.genesis && len(cfg.InitialCluster) > 0 {
			cfg.Logger.Info("the directory has a cluster already: InitialCluster is ignored", "dir", cfg.Dir)
		}
	}
	d.start++
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
	for _, n := range names {
		if n != "LOCK" && n != identityName+".tmp" {
			return nil, fmt.Errorf("%w: directory %s holds %q and is not replkv's: give the store a directory of its own", ErrInvalidConfig, cfg.Dir, n)
		}
	}
	if cfg.Addr != "" && len(cfg.InitialCluster) == 0 {
		return nil, fmt.Errorf("%w: directory %s is empty and there is no InitialCluster: who are the members?", ErrInvalidConfig, cfg.Dir)
	}
	d := &identity{id: cfg.ID, token: tokenHash(cfg.ClusterToken), cluster: clusterID(cfg.ClusterToken, cfg.firstMembers())}
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
	if want := clusterID(cfg.ClusterToken, cfg.firstMembers()); !d.genesis && want != d.cluster {
		return fmt.Errorf("%w: directory %s was begun with another InitialCluster", ErrWrongCluster, cfg.Dir)
	}
	return nil
}
