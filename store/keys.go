package store

import (
	"encoding/binary"
	"fmt"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
)

// The first byte of every Pebble key names its space. The numbers are for ever.
const (
	spaceMeta    = 0x01 // single rows: the applied state, the configuration
	spaceSetting = 0x02 // id (8 bytes) -> number
	spaceSession = 0x03 // session id -> session; session id + seq (8 bytes) -> result
	spaceIndex   = 0x04 // last revision of an entry (8) + chunk (4) -> what changed
	spaceLease   = 0x05 // lease id (8) -> lease
	spaceHint    = 0x06 // lease id (8) + user key: a row of the key was written with the lease
	spaceMember  = 0x07 // member id -> who speaks for it
	spaceData    = 0x10 // user key + inverted revision -> row
)

// A key of the data space is
//
//	space | user key | 0x00 | ^revision (8 bytes, big endian) | 0x09
//
// Its last byte is the length of the version suffix, itself included, so that
// Split finds the prefix (space | user key | 0x00) without looking for the
// 0x00, which user keys may contain. A bare prefix ends in 0x00, a suffix of
// length none, and sorts before all versions; every key and bound of this
// package ends in one of the two bytes and so is legal under Split.
const (
	suffixLen = 9
	bareEnd   = 0x00
)

// appendBare appends the bound below all versions of key.
func appendBare[K []byte | string](dst []byte, key K) []byte {
	dst = append(dst, spaceData)
	dst = append(dst, key...)
	return append(dst, bareEnd)
}

// appendVersion turns a bare key into that of revision rev.
func appendVersion(bare []byte, rev uint64) []byte {
	bare = binary.BigEndian.AppendUint64(bare, ^rev)
	return append(bare, suffixLen)
}

// splitData returns the user key and revision of a key of the data space;
// the user key aliases k.
func splitData(k []byte) (key []byte, rev uint64, err error) {
	n := len(k) - suffixLen
	if n < 2 || k[0] != spaceData || k[len(k)-1] != suffixLen || k[n-1] != bareEnd {
		return nil, 0, fmt.Errorf("%w: data key %x", kv.ErrCorrupt, k)
	}
	return k[1 : n-1], ^binary.BigEndian.Uint64(k[n:]), nil
}

// dataEnd is the bound above all keys of the data space.
func dataEnd() []byte { return []byte{spaceData + 1, bareEnd} }

func metaKey(name string) []byte {
	return append(append([]byte{spaceMeta}, name...), bareEnd)
}

var (
	stateKey  = metaKey("state")
	configKey = metaKey("config")
)

func settingKey(id uint64) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{spaceSetting}, id), bareEnd)
}

func sessionKey(id command.SessionID) []byte {
	return append(append([]byte{spaceSession}, id[:]...), bareEnd)
}

func sessionResultKey(id command.SessionID, seq uint64) []byte {
	k := append([]byte{spaceSession}, id[:]...)
	return append(binary.BigEndian.AppendUint64(k, seq), bareEnd)
}

func memberKey(id string) []byte {
	return append(append([]byte{spaceMember}, id...), bareEnd)
}

func leaseKey(id kv.LeaseID) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{spaceLease}, uint64(id)), bareEnd)
}

const leaseKeyLen = 1 + 8 + 1

func hintKey(id kv.LeaseID, key []byte) []byte {
	k := make([]byte, 0, leaseKeyLen+len(key))
	k = binary.BigEndian.AppendUint64(append(k, spaceHint), uint64(id))
	return append(append(k, key...), bareEnd)
}

func indexKey(lastRevision uint64, chunk uint32) []byte {
	k := binary.BigEndian.AppendUint64([]byte{spaceIndex}, lastRevision)
	return append(binary.BigEndian.AppendUint32(k, chunk), bareEnd)
}

// spaceBounds returns the bounds of a whole space.
func spaceBounds(space byte) (lower, upper []byte) {
	return []byte{space, bareEnd}, []byte{space + 1, bareEnd}
}
